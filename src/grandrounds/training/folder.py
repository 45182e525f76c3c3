"""A run is a folder with these files.

recipe.yaml        every setting, resolved          metrics.jsonl      one row per round
environment.json   versions, machine, data hashes   rollouts/          every completion, one Parquet per round
cases.json         what was fitted on the cases     checkpoints/       one folder per checkpoint
changes.jsonl      settings changed by a resume     left_out.json      rows and cases that are not trained on
evaluations.jsonl  one row per held-out evaluation        monitor.jsonl      what the monitor reads and finds, by round
rolled_back.jsonl  alarms that took the run back      split.json         how many cases, and their hashes
times.json         how long warm-up and rounds took
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.cases.memory import content_hash
from grandrounds.errors import RunError, command
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import dump_recipe, load_recipe
from grandrounds.training.checkpoint import Checkpoints
from grandrounds.training.environment import differences, environment
from grandrounds.training.files import saving, sweep, write_json, write_text
from grandrounds.training.lock import lock
from grandrounds.training.whole import Timed
from grandrounds.types import CaseBook, ScoredGroup

RECIPE, ENVIRONMENT, CASES, METRICS = "recipe.yaml", "environment.json", "cases.json", "metrics.jsonl"
CHANGES, LEFT_OUT, EVALUATIONS = "changes.jsonl", "left_out.json", "evaluations.jsonl"
MONITOR, ROLLED_BACK = "monitor.jsonl", "rolled_back.jsonl"
SPLIT, TIMES = "split.json", "times.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run. `create` begins a run, `open` continues or reads an existing one."""

    path: Path

    @classmethod
    def create(cls, path: Path | str, recipe: Recipe) -> RunFolder:
        """Begin a run: make the folder, write its recipe and environment. RunError where it already holds a run.

        A run that stopped before it learned anything (a typo in the recipe, a missing model) may be begun again.
        """
        folder = cls(Path(path))
        folder._refuse_to_overwrite()
        with saving("the run's folder", folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            with lock(folder.path):
                folder.write_recipe(recipe)
                write_json(folder.path / ENVIRONMENT, environment(data_files(recipe)))
                for name in (CASES, SPLIT):
                    (folder.path / name).unlink(missing_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """An existing run. RunError where there is none."""
        folder = cls(Path(path))
        if not (folder.path / RECIPE).is_file():
            raise RunError(
                "there is no run here" if folder.path.is_dir() else "there is no such folder",
                where=str(path),
                hint=f"A run's folder holds a {RECIPE}; `grandrounds train` begins one.",
            )
        return folder

    def _refuse_to_overwrite(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise RunError("this is a file", where=str(self.path), hint="Choose another --out folder.")
        is_run = (self.path / RECIPE).is_file()
        if is_run and self.began():
            raise RunError(
                "there is a run here already",
                where=str(self.path),
                hint=f"Resume it with `{command('resume', self.path)}`, or choose another --out folder.",
            )
        if not is_run and any(name for name in os.listdir(self.path) if not name.startswith(".")):
            raise RunError(
                "the folder is not empty and holds no run",
                where=str(self.path),
                hint="Choose a new or empty --out folder.",
            )

    def began(self) -> bool:
        """Whether the run has learned anything yet: a checkpoint or a row of metrics exists."""
        return bool(self.checkpoints.all() or self.warmup.all()) or (self.path / METRICS).exists()

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints after rounds; 000000 is the cold start, before the first round."""
        return Checkpoints(self.path / "checkpoints")

    @property
    def warmup(self) -> Checkpoints:
        """The checkpoints within the SFT warm-up. They are removed when it is over."""
        return Checkpoints(self.path / "warmup")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the block no other process can train this run. Removes half-written files of killed processes."""
        with lock(self.path):
            for place in (self.path, self.checkpoints.folder, self.warmup.folder, self.path / "rollouts"):
                sweep(place)
            yield

    def write_recipe(self, recipe: Recipe) -> None:
        """Write every setting with its resolved value."""
        with saving(RECIPE, self.path / RECIPE):
            write_text(self.path / RECIPE, dump_recipe(recipe))

    def recipe(self) -> Recipe:
        """The run's recipe, as resolved when it began and changed since."""
        return load_recipe(str(self.path / RECIPE))

    def record_changes(self, rounds: int, changes: Mapping[str, tuple[Any, Any]]) -> None:
        """Add a line to changes.jsonl for each key -> (old value, new value), changed after so many rounds."""
        rows = [
            {"after_round": rounds, "key": key, "from": old, "to": new} for key, (old, new) in changes.items()
        ]
        with saving(CHANGES, self.path / CHANGES), (self.path / CHANGES).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def write_left_out(self, left_out: Sequence[str]) -> None:
        """Keep which rows and cases are not trained on, and why."""
        with saving(LEFT_OUT, self.path):
            write_json(self.path / LEFT_OUT, list(left_out))

    def environment_changes(self) -> list[str]:
        """What changed since the run began and may change its numbers. RunError where a data file changed."""
        before = self.environment()
        now = environment(data_files(self.recipe()))
        for name, digest in now["data"].items():
            if before["data"].get(name, digest) != digest:
                raise RunError(
                    f"{name} is not the file this run began with",
                    where=str(self.path),
                    hint="Put the former file back, or begin a new run on this one.",
                )
        return differences(before, now)

    def write_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Save what was fitted on the training cases (`CaseBook.fitted`), to build other files' cases the same way."""
        with saving(CASES, self.path):
            write_json(self.path / CASES, dict(fitted))

    def fitted(self) -> dict[str, Any] | None:
        """What `write_fitted` saved; None before that."""
        path = self.path / CASES
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write_split(self, book: CaseBook) -> None:
        """Save how many cases are for training, for validation and held out, and the hash of each part."""
        rows = {
            name: {"cases": len(cases), "sha256": content_hash(cases)} for name, cases in book.parts.items()
        }
        with saving(SPLIT, self.path):
            write_json(self.path / SPLIT, rows)

    def split(self) -> dict[str, Any] | None:
        """What `write_split` saved; None before that, and of runs by earlier versions."""
        path = self.path / SPLIT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def watched(self) -> str:
        """Which cases the run evaluates while it trains: "validation", or "held-out" for those of the test."""
        return "validation" if "validation" in (self.split() or {}) else "held-out"

    def write_times(self, timed: Mapping[str, Timed]) -> None:
        """Save what was timed so far, for the progress of a resumed run."""
        with saving(TIMES, self.path):
            write_json(self.path / TIMES, timed)

    def times(self) -> dict[str, Timed]:
        """What `write_times` saved; nothing before that, and of runs by earlier versions."""
        path = self.path / TIMES
        saved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {name: (work, seconds) for name, (work, seconds) in saved.items()}

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one row to metrics.jsonl, by one write. What is not finite becomes null: JSON knows no NaN."""
        self._append(METRICS, row)

    def metrics(self) -> list[dict[str, Any]]:
        """Every row of metrics.jsonl; a half-written last line is left out."""
        return self._rows(METRICS)

    def append_evaluation(self, row: Mapping[str, Any]) -> None:
        """Add one row to evaluations.jsonl."""
        self._append(EVALUATIONS, row)

    def evaluations(self) -> list[dict[str, Any]]:
        """Every row of evaluations.jsonl."""
        return self._rows(EVALUATIONS)

    def append_monitor(self, row: Mapping[str, Any]) -> None:
        """Add one row to monitor.jsonl."""
        self._append(MONITOR, row)

    def monitor(self) -> list[dict[str, Any]]:
        """Every row of monitor.jsonl."""
        return self._rows(MONITOR)

    def append_rolled_back(self, row: Mapping[str, Any]) -> None:
        """Add one row to rolled_back.jsonl, which no resume rewinds."""
        self._append(ROLLED_BACK, row)

    def rolled_back(self) -> list[dict[str, Any]]:
        """Every row of rolled_back.jsonl."""
        return self._rows(ROLLED_BACK)

    def changes(self) -> list[dict[str, Any]]:
        """Every row of changes.jsonl: the settings that resumes have changed."""
        return self._rows(CHANGES)

    def left_out(self) -> list[str]:
        """What `write_left_out` saved; nothing where nothing was left out."""
        path = self.path / LEFT_OUT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def environment(self) -> dict[str, Any]:
        """The versions, machine and data hashes with which the run began."""
        return json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        line = json.dumps({key: _plain(value) for key, value in row.items()}, ensure_ascii=False) + "\n"
        with saving(name, self.path / name), (self.path / name).open("ab", buffering=0) as file:
            file.write(line.encode())

    def _rows(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]  # an incomplete line follows the last newline
        return [row for line in lines if (row := _row(line)) is not None]

    def rewind(self, after_round: int) -> None:
        """Forget what was written of rounds later than `after_round`: it is made again."""
        with saving(METRICS, self.path / METRICS):
            for name in (METRICS, EVALUATIONS, MONITOR):
                if (self.path / name).exists():
                    rows = [row for row in self._rows(name) if row.get("round", 0) <= after_round]
                    write_text(
                        self.path / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                    )
            for path in (self.path / "rollouts").glob("*.parquet"):
                if path.stem.isdigit() and int(path.stem) > after_round:
                    path.unlink()

    def write_rollouts(self, number: int, groups: Sequence[ScoredGroup], *, tokens: bool = False) -> None:
        """Write the trace of one round: every completion with its scores and advantage, and its tokens if wanted."""
        from grandrounds.training.trace import write_trace

        path = self.path / "rollouts" / f"{number:06d}.parquet"
        with saving(f"the trace of round {number}", path):
            write_trace(path, number, groups, tokens=tokens)


def data_files(recipe: Recipe) -> list[Path]:
    """The local files that the recipe's cases come from."""
    sources = (recipe.cases.source, recipe.cases.test_source, *recipe.cases.mix)
    return [Path(source) for source in sources if source and Path(source).is_file()]


def _plain(value: Any) -> Any:
    """A JSON-able value: numpy scalars become Python's, numbers that are not finite become None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
