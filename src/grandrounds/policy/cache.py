"""Models that are made from others once, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(name: str, origin: Path, make: Callable[[Path], None]) -> Path:
    """The cache's folder `NAME-` and a digest of the file `origin`; where it is not there yet, `make` writes it.

    Another process never sees half of it.
    """
    folder = cache_folder() / f"{name}-{_digest(origin)}"
    if not (folder / "config.json").is_file():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
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


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]
