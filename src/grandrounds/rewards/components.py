"""A reward component: something that gives each attempt a mark, built in or a user's own.

Every mark is checked here: a number that is finite, or None. Nothing else ever becomes a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol

from grandrounds.errors import RewardError
from grandrounds.rewards.attempt import Attempt, Judge, Mark
from grandrounds.rewards.guarded import Loop, Timeout, start, wait
from grandrounds.rewards.user import UserFunction, describe, place_of

_MEND = "Mend the reward function, or return None for attempts it does not apply to."


class Component(Protocol):
    """Marks for attempts, in their order."""

    @property
    def best(self) -> float | None:
        """A perfect response's score; None where nobody knows."""
        ...

    def marks(self, attempts: Sequence[Attempt]) -> list[Mark]:
        """One mark for each attempt; RewardError where that fails."""
        ...


@dataclass(frozen=True)
class BuiltInComponent:
    """A reward of ours: trusted to end, not to be right."""

    name: str
    judge: Judge
    best: float | None

    def marks(self, attempts: Sequence[Attempt]) -> list[Mark]:
        """One mark for each attempt."""
        return [self._mark(attempt) for attempt in attempts]

    def _mark(self, attempt: Attempt) -> Mark:
        where = f"rewards.{self.name}, case {attempt.case.id}"
        try:
            mark = self.judge(attempt)
        except Exception as error:
            raise RewardError(
                f"the reward raised {describe(error)}",
                where=where,
                hint="This is a bug in it; please report it.",
            ) from error
        return Mark(checked(mark.value, where), mark.note)


@dataclass(frozen=True)
class UserComponent:
    """A user's function: called with a time limit and a number of further tries."""

    name: str
    user: UserFunction
    timeout_seconds: float
    retries: int
    best: float | None = None
    _loop: Loop = field(default_factory=Loop, repr=False, compare=False)

    def marks(self, attempts: Sequence[Attempt]) -> list[Mark]:
        """One mark for each attempt. An attempt function that is async is called for all of them at once."""
        if not attempts:
            return []
        calls = self.user.arguments(attempts)
        if self.user.form != "attempt":
            return self._result(self._start(*calls[0]), calls[0], attempts)
        if self.user.is_async:
            begun = [self._start(*call) for call in calls]
            results = zip(begun, calls, attempts, strict=True)
            return [mark for future, call, one in results for mark in self._result(future, call, [one])]
        return [
            mark
            for call, one in zip(calls, attempts, strict=True)
            for mark in self._result(self._start(*call), call, [one])
        ]

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        return (self._loop.start if self.user.is_async else start)(self.user.function, args, kwargs)

    def _result(
        self, future: Future[Any], call: tuple[tuple[Any, ...], dict[str, Any]], attempts: Sequence[Attempt]
    ) -> list[Mark]:
        for left in range(self.retries, -1, -1):
            try:
                return self._checked(wait(future, self.timeout_seconds), attempts)
            except Exception as error:
                if isinstance(error, Timeout):
                    self._loop.abandon()
                if left == 0:
                    raise self._explained(error, attempts) from error
                future = self._start(*call)
        raise AssertionError("the loop above returns or raises")

    def _checked(self, returned: Any, attempts: Sequence[Attempt]) -> list[Mark]:
        """The returned value as marks, each checked."""
        values = [returned] if self.user.form == "attempt" else _as_list(returned)
        if values is None:
            raise RewardError(
                f"returned {type(returned).__name__} instead of a list of {len(attempts)} scores",
                where=f"rewards.{self.name}, {self.user.source}",
                hint="Return a list with one number or None for each completion.",
            )
        if len(values) != len(attempts):
            raise RewardError(
                f"returned {len(values)} scores for {len(attempts)} completions",
                where=f"rewards.{self.name}, {self.user.source}",
                hint="Return a list with one number or None for each completion.",
            )
        return [
            Mark(checked(value, f"rewards.{self.name}, case {attempt.case.id}"))
            for value, attempt in zip(values, attempts, strict=True)
        ]

    def _explained(self, error: Exception, attempts: Sequence[Attempt]) -> RewardError:
        """What the last try failed with, as the error that its reader can fix."""
        tries = f" (tried {self.retries + 1} times)" if self.retries else ""
        case = f", case {attempts[0].case.id}" if len(attempts) == 1 else ""
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
            hint=_MEND,
        )


def _as_list(returned: Any) -> list[Any] | None:
    """A list, tuple, array or tensor as a list; None for anything else."""
    if hasattr(returned, "tolist"):
        returned = returned.tolist()
    return list(returned) if isinstance(returned, (list, tuple)) else None


def checked(value: Any, where: str) -> float | None:
    """A score as a float, or None; RewardError for what is neither."""
    if value is None:
        return None
    if hasattr(value, "item"):  # numbers of NumPy and torch
        value = value.item()
    if not isinstance(value, Real):
        raise RewardError(f"returned {value!r:.80}, which is no number", where=where, hint=_MEND)
    number = float(value)
    if not math.isfinite(number):
        raise RewardError(f"returned {number}", where=where, hint=_MEND)
    return number
