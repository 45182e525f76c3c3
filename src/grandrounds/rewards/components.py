"""A reward component gives each sample a score. It is built in, or a user's own function.

Every score is checked here: it is a finite number or None, and nothing else becomes a score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol

from grandrounds.errors import RewardError
from grandrounds.loading import describe, place_of
from grandrounds.rewards.guarded import Loop, Timeout, start, wait
from grandrounds.rewards.scorer import Score, Scorer
from grandrounds.rewards.user import UserFunction
from grandrounds.types import Sample

_HINT = "Correct the reward function, or return None for samples it does not apply to."


class Component(Protocol):
    """Gives scores for samples, in their order."""

    @property
    def best(self) -> float | None:
        """The score of a perfect response; None where it is not known."""
        ...

    def scores(self, samples: Sequence[Sample], further: Mapping[str, Any] = {}) -> list[Score]:
        """One score for each sample. RewardError where scoring fails."""
        ...


@dataclass(frozen=True)
class BuiltInComponent:
    """A reward of ours. It has no time limit, but its scores are checked."""

    name: str
    scorer: Scorer
    best: float | None

    def scores(self, samples: Sequence[Sample], further: Mapping[str, Any] = {}) -> list[Score]:
        """One score for each sample."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> Score:
        where = f"rewards.{self.name}, case {sample.case.id}"
        try:
            score = self.scorer(sample)
        except Exception as error:
            raise RewardError(
                f"the reward raised {describe(error)}",
                where=where,
                hint="This is a bug in it; please report it.",
            ) from error
        return Score(checked(score.value, where), score.note)


@dataclass(frozen=True)
class UserComponent:
    """A user's function. Calls have a time limit and are repeated after a failure."""

    name: str
    user: UserFunction
    timeout_seconds: float
    retries: int
    best: float | None = None
    _loop: Loop = field(default_factory=Loop, repr=False, compare=False)

    def scores(self, samples: Sequence[Sample], further: Mapping[str, Any] = {}) -> list[Score]:
        """One score for each sample. A coroutine for one sample is called for all of them at once."""
        if not samples:
            return []
        calls = self.user.arguments(samples, further)
        if self.user.form != "sample":
            return self._result(self._start(*calls[0]), calls[0], samples)
        if self.user.is_async:
            begun = [self._start(*call) for call in calls]
            results = zip(begun, calls, samples, strict=True)
            return [score for future, call, one in results for score in self._result(future, call, [one])]
        return [
            score
            for call, one in zip(calls, samples, strict=True)
            for score in self._result(self._start(*call), call, [one])
        ]

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        return (self._loop.start if self.user.is_async else start)(self.user.function, args, kwargs)

    def _result(
        self, future: Future[Any], call: tuple[tuple[Any, ...], dict[str, Any]], samples: Sequence[Sample]
    ) -> list[Score]:
        for left in range(self.retries, -1, -1):
            try:
                return self._checked(wait(future, self.timeout_seconds), samples)
            except Exception as error:
                if isinstance(error, Timeout):
                    self._loop.abandon()
                if left == 0:
                    raise self._explained(error, samples) from error
                future = self._start(*call)
        raise AssertionError("the loop above returns or raises")

    def _checked(self, returned: Any, samples: Sequence[Sample]) -> list[Score]:
        """The returned value as a list of checked scores."""
        values = [returned] if self.user.form == "sample" else _as_list(returned)
        if values is None:
            raise RewardError(
                f"returned {type(returned).__name__} instead of a list of {len(samples)} scores",
                where=f"rewards.{self.name}, {self.user.source}",
                hint="Return a list with one number or None for each completion.",
            )
        if len(values) != len(samples):
            raise RewardError(
                f"returned {len(values)} scores for {len(samples)} completions",
                where=f"rewards.{self.name}, {self.user.source}",
                hint="Return a list with one number or None for each completion.",
            )
        return [
            Score(checked(value, f"rewards.{self.name}, case {sample.case.id}"))
            for value, sample in zip(values, samples, strict=True)
        ]

    def _explained(self, error: Exception, samples: Sequence[Sample]) -> RewardError:
        """The failure of the last try as an error with a hint."""
        tries = f" (tried {self.retries + 1} times)" if self.retries else ""
        case = f", case {samples[0].case.id}" if len(samples) == 1 else ""
        if isinstance(error, RewardError):
            return RewardError(error.what + tries, where=error.where, hint=error.hint)
        if isinstance(error, Timeout):
            return RewardError(
                f"the reward gave {error}{tries}",
                where=f"rewards.{self.name}, {self.user.source}{case}",
                hint=f"Make it faster, or raise rewards.{self.name}.timeout_seconds.",
            )
        return RewardError(
            f"the reward raised {describe(error)}{tries}",
            where=f"rewards.{self.name}, {place_of(error, self.user.source)}{case}",
            hint=_HINT,
        )


def _as_list(returned: Any) -> list[Any] | None:
    """A list, tuple, array or tensor as a list. None for anything else."""
    if hasattr(returned, "tolist"):
        returned = returned.tolist()
    return list(returned) if isinstance(returned, (list, tuple)) else None


def checked(value: Any, where: str) -> float | None:
    """A score as a float, or None. RewardError for anything else."""
    if value is None:
        return None
    if hasattr(value, "item"):  # scalars of NumPy and torch
        value = value.item()
    if not isinstance(value, Real):
        raise RewardError(f"returned {value!r:.80}, which is no number", where=where, hint=_HINT)
    number = float(value)
    if not math.isfinite(number):
        raise RewardError(f"returned {number}", where=where, hint=_HINT)
    return number
