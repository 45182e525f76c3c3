"""What the report is made of: what the run's folder holds, what is known of its cases, and what was measured now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grandrounds.cases.memory import content_hash
from grandrounds.cases.overlap import Leakage, content, leakage
from grandrounds.domain import every
from grandrounds.evaluation.compare import Comparison
from grandrounds.recipe import Recipe
from grandrounds.types import Case, CaseBook

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Logs:
    """What a run's folder holds.

    recipe_text: recipe.yaml as it stands. split: counts and hashes of the cases, None for runs of earlier versions.
    watched: which cases were evaluated while training.
    changed_since: what differs between the run's environment and this one. best: the best checkpoint's round and
    measure, None without one. rounds_done: rows of metrics. checkpoint: the newest one's name, "" without one.
    """

    path: Path
    recipe: Recipe
    recipe_text: str
    environment: Row
    changed_since: Sequence[str]
    split: Row | None
    watched: str
    metrics: Sequence[Row]
    evaluations: Sequence[Row]
    monitor: Sequence[Row]
    rolled_back: Sequence[Row]
    changes: Sequence[Row]
    left_out: int
    best: Row | None
    checkpoint: str

    @property
    def rounds_done(self) -> int:
        """The last round that metrics.jsonl has."""
        return max((int(row.get("round") or 0) for row in self.metrics), default=0)

    @property
    def finished(self) -> bool:
        """Whether all rounds of the recipe are done. A run that stopped by `evaluation.patience` has not."""
        return self.rounds_done >= self.recipe.rounds

    @property
    def notice(self) -> str:
        """What must be said beside results on the run's cases."""
        return notice_of(self.recipe.cases.source)


def notice_of(source: str) -> str:
    """The notice that must be shown with results on these cases, or ""."""
    known = every("sources").get(source.partition(":")[0])
    return known.notice if known else ""


def read_logs(run: Path) -> Logs:
    """Read a run's folder. RunError where there is none, RecipeError for a recipe that this version cannot read."""
    import json

    from grandrounds.training.environment import differences, environment
    from grandrounds.training.folder import ENVIRONMENT, RECIPE, RunFolder

    folder = RunFolder.open(run)
    state = run / "checkpoints" / "best" / "state.json"
    began = folder.environment() if (run / ENVIRONMENT).is_file() else {}
    newest = folder.checkpoints.latest(lambda damage: None)
    return Logs(
        path=run,
        recipe=folder.recipe(),
        recipe_text=(run / RECIPE).read_text(encoding="utf-8"),
        environment=began,
        changed_since=differences(began, environment()) if began else (),
        split=folder.split(),
        watched=folder.watched,
        metrics=folder.metrics(),
        evaluations=folder.evaluations(),
        monitor=folder.monitor(),
        rolled_back=folder.rolled_back(),
        changes=folder.changes(),
        left_out=len(folder.left_out()),
        best=json.loads(state.read_text(encoding="utf-8")) if state.is_file() else None,
        checkpoint=newest.name if newest else "",
    )


@dataclass(frozen=True)
class CaseFacts:
    """The cases that policies were evaluated on for this report, and the run's own.

    own: whether they are held out from the run's own source. hashes: `CaseBook.parts` -> SHA-256, as built now.
    trained_on: policy -> how many of the evaluated cases are copies of its own training cases; None where its training
    cases are not known.
    """

    source: str
    own: bool
    train: int
    validation: int
    held_out: int
    evaluated: int
    hashes: Mapping[str, str]
    leakage: Leakage
    dropped: Mapping[str, int]
    trained_on: Mapping[str, int | None] = field(default_factory=dict)


def case_facts(
    source: str, own: bool, book: CaseBook, chosen: Sequence[Case], held_out: Sequence[Case]
) -> CaseFacts:
    """book: the source's cases; chosen: those of `held_out` that are evaluated."""
    return CaseFacts(
        source=source,
        own=own,
        train=len(book.train) if own else 0,
        validation=len(book.validation) if own else 0,
        held_out=len(held_out),
        evaluated=len(chosen),
        hashes={part: content_hash(cases) for part, cases in book.parts.items()} if own else {},
        leakage=leakage(book.train if own else (), chosen),
        dropped=book.dropped,
    )


def copies(chosen: Sequence[Case], train: Sequence[Case]) -> int:
    """How many of the chosen cases are copies of training cases."""
    known = {content(case) for case in train}
    return sum(content(case) in known for case in chosen)


@dataclass(frozen=True)
class Measured:
    """What was measured for this report: None where it was not, with the reason.

    comparison: all policies on the evaluated cases. tried: the same on fewer of them, with several answers to each, and
    with changed cases.
    """

    comparison: Comparison | None = None
    tried: Comparison | None = None
    cases: CaseFacts | None = None
    not_compared: str = ""
    not_tried: str = ""


@dataclass(frozen=True)
class RunFacts:
    """All that the report is made of. made_on: a date, as text. name: the run's name in tables."""

    name: str
    logs: Logs
    measured: Measured
    made_on: str
    made_with: str
