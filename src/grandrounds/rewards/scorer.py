"""The types of a reward: a scorer is a function from a sample to a score, built from options and a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from grandrounds.cases.check import Knowledge
from grandrounds.types import Sample


@dataclass(frozen=True)
class Score:
    """The score that one component gives one sample.

    value: the score; None means that the component does not apply to this sample.
    note: what decided the score, for the reader of a trace; JSON-able.
    """

    value: float | None
    note: Any = None


Scorer = Callable[[Sample], Score]


@runtime_checkable
class GroupScorer(Protocol):
    """A scorer that scores a group faster than its samples one by one, because it waits for something else."""

    def __call__(self, sample: Sample) -> Score:
        """The score of one sample."""
        ...

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        """One score for each sample of a group."""
        ...


@dataclass(frozen=True)
class RewardContext:
    """What a component may use when it is built.

    knowledge: that of the cases' own source, or None. base: the folder to which relative paths are relative.
    run: the run's folder, None outside a run. name, timeout_seconds, retries: the component's own, of the recipe.
    """

    knowledge: Knowledge | None = None
    base: Path = field(default_factory=Path.cwd)
    run: Path | None = None
    name: str = ""
    timeout_seconds: float = 60.0
    retries: int = 1


@dataclass(frozen=True)
class BuiltIn:
    """A reward that comes with the package.

    make: makes a scorer from a context and options.
    best: the score of a perfect response; None where even a perfect response may lose a little.
    """

    make: Callable[..., Scorer]
    best: float | None = 1.0
