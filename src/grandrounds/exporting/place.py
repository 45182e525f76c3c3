"""Folders that appear complete or not at all, and replace nothing unasked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grandrounds.errors import RunError
from grandrounds.training.files import WRITING, flush, flush_tree, remove_tree, saving


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


@contextmanager
def placed(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to write into. At the end of the block it takes its place, by one rename.

    After an error nothing is left of it, and `folder` is as it was. A killed process leaves it to the next.
    """
    hidden = folder.with_name(WRITING + folder.name)
    with saving(f"the export {folder.name}", folder):
        shutil.rmtree(hidden, ignore_errors=True)  # of an export that was killed
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
