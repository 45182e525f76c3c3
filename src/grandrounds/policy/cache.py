"""Models that are made from others once, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from grandrounds.web.visible import visible

# Told when something begins that takes long. Only who wants to hear it does: the command line.
_LOG = logging.getLogger(__name__)


def made_once(name: str, origin: str, doing: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder for `name` and `origin`; where it is not there yet, `make` writes it.

    origin: tells apart all that the folder's content follows from. doing: what is then logged: "Unpacking model.gguf".
    Another process never sees half of the folder.
    """
    folder = cache_folder() / f"{name}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"
    if not (folder / "config.json").is_file():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        _LOG.info("%s", visible(doing))
        try:
            make(making)
            making.rename(folder)
        except FileExistsError:  # another process was faster
            pass
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """$GRANDROUNDS_CACHE, or grandrounds/models in the user's cache."""
    named = os.environ.get("GRANDROUNDS_CACHE")
    return Path(named) if named else Path.home() / ".cache/grandrounds/models"


def digest(file: Path) -> str:
    """Of a file's content. Read once in a process, and again when the file has changed."""
    there = file.stat()
    return _digest(file, there.st_size, there.st_mtime_ns)


@cache
def _digest(file: Path, size: int, modified: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
