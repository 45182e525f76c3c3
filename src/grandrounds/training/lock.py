"""One process at a time trains a run.

The lock is the operating system's (flock), so it ends with its process however that ends; the process id in
the file only serves the message.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grandrounds.errors import RunError

NAME = ".lock"
_held: set[int] = set()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run's lock; RunError where another live process holds it."""
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(descriptor)
    try:
        if not _acquire(descriptor):
            os.lseek(descriptor, 0, os.SEEK_SET)
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise RunError(
                f"another process{f' ({holder})' if holder else ''} is at this run",
                where=str(folder),
                hint="Wait for it or stop it, or choose another --out folder.",
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        _held.discard(descriptor)
        with suppress(OSError):
            os.close(descriptor)


def _acquire(descriptor: int) -> bool:
    """Whether the lock could be had at once. A file system that knows no locks gives it to everyone."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the text, which others may still read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
    return True


def _forget() -> None:
    """In a forked child: close the inherited descriptors, or the lock would outlive the parent in its
    children.
    """
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
