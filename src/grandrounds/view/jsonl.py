"""Reads growing files of JSON lines, each line once."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock
from typing import Any

Row = dict[str, Any]


class JsonLines:
    """The complete rows of a file that somebody else appends to.

    epoch: grows by one whenever the file was replaced or cut, so that rows given before no longer count.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.epoch = path, 0
        self._rows: list[Row] = []
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._lock = Lock()

    def rows(self) -> list[Row]:
        """All rows so far. No rows where there is no file; lines that are no JSON object are left out."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    self._read(file)
            except OSError:
                self._forget(None)
            return list(self._rows)

    def _read(self, file: Any) -> None:
        import os

        state = os.fstat(file.fileno())
        identity = (state.st_dev, state.st_ino)
        if identity != self._identity or state.st_size < self._offset:
            self._forget(identity)
        file.seek(self._offset)
        complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        self._rows += [row for line in complete.split(b"\n") if (row := json_object(line)) is not None]

    def _forget(self, identity: tuple[int, int] | None) -> None:
        if self._identity is not None:
            self.epoch += 1
        self._rows, self._offset, self._identity = [], 0, identity


def json_object(text: bytes | str) -> Row | None:
    """The JSON object that the text is; None for anything else, however it is malformed."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def read_object(path: Path) -> Row:
    """The JSON object in a file; empty where there is none."""
    try:
        return json_object(path.read_bytes()) or {}
    except OSError:
        return {}
