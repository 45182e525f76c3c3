"""What a reward is: a function from a sample to a score, built with its options and a context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grandrounds.cases.check import Knowledge
from grandrounds.types import Sample


@dataclass(frozen=True)
class Score:
    """What one component gives one sample.

    value: the score; None means that the component does not apply to this sample.
    note: what decided it, for the reader of a trace; JSON-able.
    """

    value: float | None
    note: Any = None


Scorer = Callable[[Sample], Score]


@dataclass(frozen=True)
class RewardContext:
    """What a component may need when it is built.

    knowledge: what the cases' own source knows, or None. base: what relative paths are relative to.
    """

    knowledge: Knowledge | None = None
    base: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class BuiltIn:
    """A reward that ships with the package.

    make: its context and options -> a scorer.
    best: the score of a perfect response; None where even that may lose a little.
    """

    make: Callable[..., Scorer]
    best: float | None = 1.0
