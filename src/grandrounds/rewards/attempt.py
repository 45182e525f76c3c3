"""The vocabulary of rewards: what is judged, and what a judgement looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from grandrounds.response.check import Knowledge
from grandrounds.response.grammar import Response
from grandrounds.types import Case, Message


@dataclass(frozen=True)
class Attempt:
    """One completion of one case, as every reward sees it.

    prompt: the chat messages that were asked. text: the completion as decoded.
    length: in tokens, of at most max_new_tokens. finish: "stop", or "length" where it was cut off.
    tokens: the completion's token ids [length], where the caller hands them on.
    """

    case: Case
    response: Response
    prompt: tuple[Message, ...]
    text: str
    length: int
    finish: Literal["stop", "length"]
    max_new_tokens: int
    tokens: Sequence[int] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Mark:
    """One component's judgement of one attempt.

    value: the score; None means that the component does not apply to this attempt.
    note: what decided it, for the reader of a trace; JSON-able.
    """

    value: float | None
    note: Any = None


@dataclass(frozen=True)
class Scores:
    """The judgement of a whole round, all lists in the order of the attempts.

    components: name -> each attempt's score, None where the component does not apply.
    rewards: weights and gates applied.
    notes: per attempt, component name -> what decided it, for components that say so.
    """

    components: dict[str, list[float | None]]
    rewards: list[float]
    notes: list[dict[str, Any]]


Judge = Callable[[Attempt], Mark]


@dataclass(frozen=True)
class Surroundings:
    """What a component may need when it is built.

    knowledge: what the cases' own source knows, or None. base: what relative paths are relative to.
    """

    knowledge: Knowledge | None = None
    base: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class BuiltIn:
    """A reward that ships with the package.

    make: its options -> a judge of single attempts.
    best: the score of a perfect response; None where even that may lose a little.
    """

    make: Callable[..., Judge]
    best: float | None = 1.0
