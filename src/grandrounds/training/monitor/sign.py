"""A sign, and the finding that it makes of a run's history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from grandrounds.recipe import Recipe
from grandrounds.shares import percent
from grandrounds.training.monitor.history import Change, History
from grandrounds.training.monitor.paid import Payer, most_paying
from grandrounds.training.monitor.readings import Feature
from grandrounds.types import Sample, ScoredGroup


@dataclass(frozen=True)
class Finding:
    """What a sign shows: what is seen, its likely cause, what to do, and the figures behind it."""

    sign: str
    what: str
    cause: str
    hint: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All of it, as a sentence each."""
        return f"{self.what}. {self.cause}. {self.hint}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Watched:
    """All that a sign may look at.

    groups: those of the newest round. weights: component -> its weight in the reward. scored: what a component gives
    these samples, nothing where it is no user's function. best: where the best policy is.
    """

    recipe: Recipe
    history: History
    groups: Sequence[ScoredGroup]
    weights: Mapping[str, float]
    features: Mapping[str, Feature]
    scored: Callable[[str, Sequence[Sample]], Sequence[float | None]] = lambda name, samples: ()
    precision: str = "float32"
    best: str = ""

    def payer(self, feature: str, way: int = 1) -> Payer | None:
        """The component that pays most for more of a feature (way 1), or for less of it (-1)."""
        return most_paying(self.groups, self.features[feature], self.weights, way)


@dataclass(frozen=True)
class Sign:
    """A sign by name: `find` returns what it shows now, or None.

    evaluated: it depends on held-out evaluations, so it is looked for after these alone and stands until the next one.
    """

    name: str
    find: Callable[[Watched], Finding | None]
    evaluated: bool = False


def changed(change: Change) -> dict[str, float]:
    """A change's figures, for `Finding.numbers`."""
    return {
        "before": change.before.mean,
        "now": change.now.mean,
        "standard_errors": max(-1e3, min(1e3, change.errors)),  # JSON knows no infinity
    }


def course(change: Change) -> str:
    """ "3% to 40%"."""
    return f"{percent(change.before.mean)} to {percent(change.now.mean)}"
