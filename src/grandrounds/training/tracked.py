"""A run as its trackers are told of it. A tracker that fails is dropped with one warning, and the run goes on.

trackers.json   tracker -> what it calls this run, by which a resumed run is continued there
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from grandrounds.loading import describe
from grandrounds.recipe import Recipe
from grandrounds.tracking.tracker import Ending, TrackedRun, Tracker
from grandrounds.training.checkpoint import MANIFEST, OPTIMIZER, STATE
from grandrounds.training.files import saving, write_json
from grandrounds.training.folder import ENVIRONMENT, EVALUATIONS, RECIPE, RunFolder
from grandrounds.training.held_out import BEST
from grandrounds.types import ScoredGroup
from grandrounds.web.visible import cut, visible

TRACKERS = "trackers.json"
# Completions in a table at most, and bytes of a policy that is sent along.
ROWS, SMALL = 64, 64 * 2**20


class Tracking:
    """The trackers of a run; used as a context manager around it. Without trackers it does nothing.

    every: rounds between tables of completions, 0 for none; None: as often as held-out cases are evaluated, or else
    checkpoints are saved.
    """

    def __init__(self, trackers: Sequence[Tracker], every: int | None, note: Callable[[str], None]) -> None:
        self._trackers, self._every, self._note = list(trackers), every, note
        self._folder: RunFolder | None = None
        self._rounds = 0
        self.ending: Ending = "finished"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = self.ending if error is None else "failed"
        if self._folder is not None:
            files = dict(_at_the_end(self._folder))
            self._tell(lambda tracker: tracker.files(files))
            self._tell(lambda tracker: tracker.end(ending))

    def begin(self, folder: RunFolder, recipe: Recipe, *, rounds: int, sft: int) -> None:
        """The run begins, or goes on after so many rounds and SFT steps."""
        path = folder.path / TRACKERS
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for name in known.keys() - {tracker.name for tracker in self._trackers}:
            self._note(
                f"This run was tracked by {name}, which now misses what follows: --track {name} goes on there."
            )
        if not self._trackers:
            return
        if self._every is None:
            self._every = recipe.evaluation.every or recipe.checkpoint.every
        self._folder, self._rounds = folder, recipe.rounds
        settings = dict(_flat(recipe.model_dump(mode="json")))
        first = {name: folder.path / name for name in (RECIPE, ENVIRONMENT)}

        def start(tracker: Tracker) -> None:
            name, former = _name(recipe.name, folder.path.name), known.get(tracker.name)
            known[tracker.name] = tracker.begin(TrackedRun(name, folder.path, settings, former, rounds, sft))
            if former is None:
                tracker.files(first)

        self._tell(start)
        with saving(TRACKERS, path):
            write_json(path, known)

    def sft(self, step: int, metrics: Mapping[str, Any]) -> None:
        """An SFT step is done."""
        values = _finite(metrics)
        self._tell(lambda tracker: tracker.numbers("sft", step, values))

    def evaluated(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Held-out cases were evaluated before the first round."""
        values = _finite(metrics)
        self._tell(lambda tracker: tracker.numbers("round", number, values))

    def round(self, number: int, row: Mapping[str, Any], groups: Sequence[ScoredGroup]) -> None:
        """A round is done; `row` is its row of metrics.jsonl."""
        if not self._trackers:
            return
        values = _finite(row)
        self._tell(lambda tracker: tracker.numbers("round", number, values))
        if self._every and (number % self._every == 0 or number == self._rounds):
            rows = _rows(number, groups)
            self._tell(lambda tracker: tracker.completions(number, rows))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        """Tell every tracker. One that raises, whatever it raises, is told no more."""
        for tracker in tuple(self._trackers):
            try:
                what(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                self._note(
                    f"Warning: {tracker.name} failed ({describe(error):.200}). It is not told of this run any more; "
                    "the run goes on, and everything is in its folder."
                )


def _name(recipe: str, folder: str) -> str:
    """What a run is called: by its recipe and its folder, or by one of them where they agree."""
    return folder if folder.startswith(recipe) else f"{recipe}-{folder}"


def _finite(row: Mapping[str, Any]) -> dict[str, float]:
    """Those values that are finite numbers, without the round itself."""
    numbers = {
        name: float(value) for name, value in row.items() if isinstance(value, (int, float, np.number))
    }
    return {name: value for name, value in numbers.items() if name != "round" and math.isfinite(value)}


def _rows(number: int, groups: Sequence[ScoredGroup]) -> list[dict[str, Any]]:
    """Completions of whole groups, one at least and some ROWS together."""
    count = max(1, ROWS // len(groups[0].samples))
    return [_row(number, group, turn) for group in groups[:count] for turn in range(len(group.samples))]


def _row(number: int, group: ScoredGroup, turn: int) -> dict[str, Any]:
    sample = group.samples[turn]
    row: dict[str, Any] = {
        "round": number,
        "case": sample.case.id,
        "prompt": sample.prompt.text,
        "completion": sample.text,
        "answer": sample.response.answer,
        "gold": sample.case.gold.text,
        "correct": sample.verdict.correct,
        "reward": float(group.rewards[turn]),
        "advantage": None if group.advantages is None else float(np.mean(group.advantages[turn])),
        **{f"rewards/{name}": scores[turn] for name, scores in group.scores.items()},
    }
    return {name: _shown(value) for name, value in row.items()}


def _shown(value: Any) -> Any:
    """For a tracker, which shows a text as it is: text made visible and cut, anything else as it is."""
    return visible(cut(value)) if isinstance(value, str) else value


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """ "grpo.group_size" -> value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", _shown(value)


def _at_the_end(folder: RunFolder) -> Iterator[tuple[str, Path]]:
    """The files that are kept with a tracked run, by name: settings, evaluations, pages, and a small policy."""
    pages = sorted(folder.path.glob("*.html"))
    for path in (*(folder.path / name for name in (RECIPE, ENVIRONMENT, EVALUATIONS)), *pages):
        if path.is_file():
            yield path.name, path
    best = folder.checkpoints.folder / BEST
    policy = best if best.is_dir() else next(reversed(folder.checkpoints.complete()), None)
    if policy is None:
        return
    files = [
        path for path in policy.iterdir() if path.is_file() and path.name not in (MANIFEST, OPTIMIZER, STATE)
    ]
    if sum(path.stat().st_size for path in files) <= SMALL:
        yield from ((f"policy/{path.name}", path) for path in sorted(files))
