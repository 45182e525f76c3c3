"""What a judge keeps on disk: its answers, and how many calls a run has made. JSON, each file written as a whole."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.errors import RewardError

# In the folder that commands are started in: `train`, `resume` and `rewards agreement` then share the answers.
FOLDER = Path(".grandrounds-cache") / "judge"
CALLS = "judge-calls.json"
_WRITING = threading.Lock()


@dataclass(frozen=True)
class Answers:
    """The judge's answers by what was asked. A file holds verdicts and reasons, not the question or the response."""

    folder: Path

    @staticmethod
    def key(asked: Any) -> str:
        """The same for the same JSON-able value."""
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        """The answer, or None where there is none."""
        with suppress(OSError, UnicodeDecodeError):
            return self._path(key).read_text(encoding="utf-8")
        return None

    def put(self, key: str, answer: str) -> None:
        """Keep an answer. RewardError where it cannot be written."""
        write_whole(self._path(key), answer)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class Budget:
    """Counts the calls of a component, also over the resumptions of a run, and allows no more than `most`."""

    def __init__(self, name: str, most: int | None, run: Path | None) -> None:
        """run: the run's folder; None outside a run, where only the calls of this process count."""
        self._name, self._most = name, most
        self._file = None if run is None else run / CALLS
        self.calls = self._saved().get(name, 0)
        self._counting = threading.Lock()

    def spend(self) -> None:
        """Count a call that is about to be made. RewardError where none is left."""
        with self._counting:
            if self._most is not None and self.calls >= self._most:
                raise RewardError(
                    f"the judge's budget of {self._most:,} calls is spent",
                    where="options.budget",
                    hint=f"Go on with a larger one: grandrounds resume RUN --set rewards.{self._name}.options.budget="
                    f"{2 * self._most}. What was answered is not asked again.",
                )
            self.calls += 1
            if self._file is not None:
                with _WRITING:  # the file holds the calls of all judges of the run
                    write_whole(self._file, json.dumps({**self._saved(), self._name: self.calls}))

    def _saved(self) -> dict[str, int]:
        if self._file is None or not self._file.exists():
            return {}
        try:
            return {str(name): int(calls) for name, calls in json.loads(self._file.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            raise RewardError(
                "the file that counts the judge's calls cannot be read",
                where=str(self._file),
                hint="Remove it to count from 0.",
            ) from None


def write_whole(path: Path, text: str) -> None:
    """Write beside `path`, then rename: a reader sees all of it or nothing. RewardError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, hidden = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with open(number, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(hidden, path)
        except BaseException:
            Path(hidden).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RewardError(
            f"what the judge said cannot be kept: {error.strerror or error}",
            where=str(path),
            hint="Free some space, or make the folder writable.",
        ) from error
