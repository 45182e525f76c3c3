"""Exports replace nothing unasked."""

from __future__ import annotations

from pathlib import Path

from grandrounds.errors import RunError


def require_free(folder: Path, overwrite: bool) -> None:
    """RunError where there is something that the user did not ask to replace."""
    if overwrite and not folder.is_file():
        return
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise RunError(
            "there is something here already",
            where=str(folder),
            hint="Choose another folder with --out, or replace this one with --overwrite.",
        )
