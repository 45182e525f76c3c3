"""Writes files so that a reader sees them complete or not at all, and reports a full disk clearly."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grandrounds.errors import RunError

# Prefixes of files and folders being written or removed. Both are hidden, and the next writer deletes leftovers.
WRITING, REMOVING = ".writing-", ".removing-"


@contextmanager
def saving(what: str, where: Path) -> Iterator[None]:
    """Turn a disk's errors into a RunError. `what` names the thing being saved: "checkpoint 000020"."""
    try:
        yield
    except Exception as error:
        if disk_full(error):
            raise RunError(
                f"the disk is full: {what} could not be saved; what was saved before is intact",
                where=str(where),
                hint="Free some space, then go on with `grandrounds resume`; checkpoint.keep=1 needs the least space.",
            ) from error
        if isinstance(error, OSError):
            raise RunError(
                f"{what} could not be saved: {error.strerror or error}",
                where=str(where),
                hint="Check that the folder exists and may be written to.",
            ) from error
        raise


def disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full. Safetensors' own error says so only in its text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "os error 28" in str(error)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a hidden sibling of `path`, flush it to disk, and rename it to `path`."""
    hidden = path.with_name(WRITING + path.name)
    try:
        write(hidden)
        flush(hidden)
        os.replace(hidden, path)
        flush(path.parent)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise


@contextmanager
def folder_at_once(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to write into. At the end of the block it takes its place, by one rename.

    After an error nothing is left of it, and `folder` is as it was. A killed process leaves it to the next.
    """
    hidden = folder.with_name(WRITING + folder.name)
    shutil.rmtree(hidden, ignore_errors=True)  # of a process that was killed
    hidden.mkdir(parents=True)
    try:
        yield hidden
        flush_tree(hidden)
        if folder.exists():
            remove_tree(folder)
        os.rename(hidden, folder)
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda hidden: _write_text(hidden, text))


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""
    write_atomically(path, lambda hidden: _write_text(hidden, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def flush(path: Path) -> None:
    """Make the system write a file, or a folder's list of names, to disk."""
    if path.is_dir() and os.name == "nt":  # Windows neither needs nor allows it for folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, children before parents, and `folder` itself."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(Path(parent) / name)
        flush(Path(parent))


def remove_tree(folder: Path) -> None:
    """Remove a folder so that no reader sees half of it: rename it to a hidden name, then delete its files."""
    hidden = folder.with_name(REMOVING + folder.name)
    shutil.rmtree(hidden, ignore_errors=True)
    os.rename(folder, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in `folder`. Only for a process that alone writes there."""
    for prefix in (WRITING, REMOVING):
        for leftover in folder.glob(f"{prefix}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
