"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from grandrounds.errors import GrandRoundsError


@contextmanager
def errors_shown() -> Iterator[None]:
    """Print a `GrandRoundsError` in its parts and exit with 1. Ctrl-C exits with 130, a closed pipe with 0.

    What the operating system refuses (a full disk, a missing permission) is a mistake that its reader can fix, too.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, and not at exit, where it would end in a traceback
    except GrandRoundsError as error:
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()  # the reader (head, less) has closed the pipe
        sys.exit(0)
    except OSError as error:
        _drop_output()
        print_error(refused(error))
        sys.exit(1)


def refused(error: OSError) -> GrandRoundsError:
    """What the operating system refuses, as a message. The error itself where it says nothing of the kind."""
    if error.errno is None or error.strerror is None:
        raise error
    place = "" if error.filename is None else str(error.filename)
    if error.errno == errno.ENOSPC:
        hint = "Free some space, or write to another disk."
        return GrandRoundsError("the disk is full", where=place, hint=hint)
    what = f"the system refuses: {error.strerror}"
    return GrandRoundsError(what, where=place, hint="Check the path and its permissions.")


def _drop_output() -> None:
    """Nothing more can be written: Python must not try to flush it again at exit."""
    with suppress(OSError, ValueError):  # standard output may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(error: GrandRoundsError) -> None:
    """Print an error in its parts on standard error."""
    from rich.console import Console

    from grandrounds.report.prose import print_prose

    console = Console(stderr=True, highlight=False)
    print_prose(console, error.what, label="Error: ", style="bold red")
    if error.where:
        print_prose(console, error.where, label="  at:   ", style="dim")
    if error.hint:
        print_prose(console, error.hint, label="  hint: ", style="dim")
