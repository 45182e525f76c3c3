"""Lets only one process at a time train a run.

The lock belongs to the operating system, so it ends with its process, however that ends. The process id in the file
only serves the error message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from grandrounds.errors import RunError

NAME = ".lock"


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run's lock within the block. RunError where another live process holds it."""
    file = folder / NAME
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(file, timeout=0))
        except Timeout:
            holder = ""
            with suppress(OSError):  # Windows does not let other processes read a locked file
                holder = file.read_text(encoding="ascii", errors="replace").strip()
            raise RunError(
                f"another process{f' ({holder})' if holder else ''} is training this run",
                where=str(folder),
                hint="Wait for it or stop it, or choose another --out folder.",
            ) from None
        except OSError:
            pass  # a file system without locks: go on without one
        with suppress(OSError):
            file.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
