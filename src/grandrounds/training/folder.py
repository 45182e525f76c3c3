"""A run is a folder with these files.

recipe.yaml        every setting, resolved          metrics.jsonl      one row per round
environment.json   versions, machine, data hashes   rollouts/          every completion, one Parquet per round
cases.json         what was fitted on the cases     checkpoints/       one folder per checkpoint
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

from grandrounds.errors import RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import dump_recipe, load_recipe
from grandrounds.training.checkpoint import Checkpoints
from grandrounds.training.environment import differences, environment
from grandrounds.training.files import saving, sweep, write_json, write_text
from grandrounds.training.lock import lock
from grandrounds.types import ScoredGroup

RECIPE, ENVIRONMENT, CASES, METRICS = "recipe.yaml", "environment.json", "cases.json", "metrics.jsonl"


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
                (folder.path / CASES).unlink(missing_ok=True)
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
                hint=f"Go on with it by `grandrounds resume {self.path}`, or choose another --out folder.",
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
        """The run's recipe, with the values resolved when it began."""
        return load_recipe(str(self.path / RECIPE))

    def environment_changes(self) -> list[str]:
        """What changed since the run began and may change its numbers. RunError where a data file changed."""
        before = json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))
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

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append a row to metrics.jsonl, in one write. Numbers that are not finite become null: JSON has no NaN."""
        line = json.dumps({key: _plain(value) for key, value in row.items()}, ensure_ascii=False) + "\n"
        with saving(METRICS, self.path / METRICS), (self.path / METRICS).open("ab", buffering=0) as file:
            file.write(line.encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Every row of metrics.jsonl, without a half-written last line."""
        path = self.path / METRICS
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]  # an incomplete line follows the last newline
        return [row for line in lines if (row := _row(line)) is not None]

    def rewind(self, after_round: int) -> None:
        """Delete the metrics and rollouts of rounds after `after_round`: a resumed run makes them again."""
        rows = [row for row in self.metrics() if row.get("round", 0) <= after_round]
        with saving(METRICS, self.path / METRICS):
            if (self.path / METRICS).exists():
                write_text(
                    self.path / METRICS,
                    "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                )
            for path in (self.path / "rollouts").glob("*.parquet"):
                if path.stem.isdigit() and int(path.stem) > after_round:
                    path.unlink()

    def write_rollouts(self, number: int, groups: Sequence[ScoredGroup]) -> None:
        """Write the trace of one round: every completion with its scores and advantage."""
        from grandrounds.training.trace import write_trace

        path = self.path / "rollouts" / f"{number:06d}.parquet"
        with saving(f"the trace of round {number}", path):
            write_trace(path, number, groups)


def data_files(recipe: Recipe) -> list[Path]:
    """The local files that the recipe's cases come from."""
    sources = (recipe.cases.source, recipe.cases.test_source)
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
