"""Keeps the end of what a process prints, and reads all of it, so that it never waits for a reader."""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress

_KEPT = 16 * 2**10
_CHUNK = 2**16
_LINES, _LINE = 5, 200
# Where the interpreter begins to say that it has crashed (faulthandler).
_CRASH = "Fatal Python error:"


class LastLines:
    """Reads the file `number` in a thread until nobody writes to it any more, and closes it."""

    def __init__(self, number: int) -> None:
        self._kept = b""
        self._reader = threading.Thread(target=self._read, args=(number,), daemon=True, name="reward output")
        self._reader.start()

    def _read(self, number: int) -> None:
        with suppress(OSError):
            while chunk := os.read(number, _CHUNK):
                self._kept = (self._kept + chunk)[-_KEPT:]
        os.close(number)

    def text(self, seconds: float = 0.1) -> str:
        """The last lines before a crash, after waiting at most so long for more; "" for none."""
        self._reader.join(seconds)
        printed = self._kept.decode(errors="replace").partition(_CRASH)[0]
        lines = [line.rstrip()[:_LINE] for line in printed.splitlines() if line.strip()]
        return "\n".join(lines[-_LINES:])

    def crashed_at(self, source: str) -> str:
        """ "file:line" of the innermost call in this file at a crash; "" where there is none."""
        crash = self._kept.decode(errors="replace").partition(_CRASH)[2]
        found = re.search(rf'File "{re.escape(source)}", line (\d+)', crash)
        return f"{source}:{found[1]}" if found else ""
