"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from grandrounds.errors import GrandRoundsError


@contextmanager
def errors_shown() -> Iterator[None]:
    """Print a `GrandRoundsError` in its parts and exit with 1. Ctrl-C exits with 130, a closed pipe with 0."""
    try:
        yield
    except GrandRoundsError as error:
        _print(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe. Python must not try to flush to it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _print(error: GrandRoundsError) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("Error: ", "bold red"), error.what))
    if error.where:
        console.print(Text.assemble(("  at:   ", "dim"), error.where))
    if error.hint:
        console.print(Text.assemble(("  hint: ", "dim"), error.hint))
