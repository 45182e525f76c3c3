"""A reward component gives each sample a score. It is built in, or a user's own function.

Every score is checked here: it is a finite number or None, and nothing else becomes a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, Protocol, TypeVar

from grandrounds.errors import RewardError
from grandrounds.loading import describe, place_of
from grandrounds.rewards.guarded import Loop, Timeout, start, wait
from grandrounds.rewards.scorer import GroupScorer, Score, Scorer
from grandrounds.rewards.user import UserFunction, returned_list
from grandrounds.rewards.workers.client import HINT, Failed, Worker
from grandrounds.types import Sample

T = TypeVar("T")


class Component(Protocol):
    """Gives scores for samples, in their order."""

    @property
    def best(self) -> float | None:
        """The score of a perfect response; None where it is not known."""
        ...

    @property
    def waits(self) -> bool:
        """Whether it waits for something else, so that sampling goes on meanwhile."""
        ...

    @property
    def at_once(self) -> bool:
        """Whether it may score several groups at the same time."""
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

    @property
    def waits(self) -> bool:
        """Whether it says so, by scoring groups."""
        return isinstance(self.scorer, GroupScorer)

    @property
    def at_once(self) -> bool:
        """One group after another: each fills the processors."""
        return False

    def scores(self, samples: Sequence[Sample], further: Mapping[str, Any] = {}) -> list[Score]:
        """One score for each sample."""
        if isinstance(self.scorer, GroupScorer):
            made = self._guarded(partial(self.scorer.scores, samples), samples[:1])
        else:
            made = [self._guarded(partial(self.scorer, sample), [sample]) for sample in samples]
        return [
            Score(checked(score.value, self._where([sample])), score.note)
            for score, sample in zip(made, samples, strict=True)
        ]

    def _where(self, samples: Sequence[Sample]) -> str:
        return ", case ".join([f"rewards.{self.name}", *(sample.case.id for sample in samples)])

    def _guarded(self, score: Callable[[], T], samples: Sequence[Sample]) -> T:
        try:
            return score()
        except RewardError as error:
            raise RewardError(
                error.what, where=f"rewards.{self.name}, {error.where}", hint=error.hint
            ) from error
        except Exception as error:
            raise RewardError(
                f"the reward raised {describe(error)}",
                where=self._where(samples),
                hint="This is a bug in it; please report it.",
            ) from error


@dataclass(frozen=True)
class UserComponent:
    """A user's function. Calls have a time limit and are repeated after a failure.

    worker: the process that the function runs in; None for one that runs in this process, in a thread or, where it is
        async, in an event loop.
    """

    name: str
    user: UserFunction
    timeout_seconds: float
    retries: int
    worker: Worker | None = None
    best: float | None = None
    _loop: Loop = field(default_factory=Loop, repr=False, compare=False)

    def scores(self, samples: Sequence[Sample], further: Mapping[str, Any] = {}) -> list[Score]:
        """One score for each sample. A coroutine for one sample is called for all of them at once."""
        if not samples:
            return []
        calls = self.user.arguments(samples, further)
        if self.user.signature.form != "sample":
            return self._result(self._start(*calls[0], samples), calls[0], samples)
        if self.user.signature.is_async:
            begun = [self._start(*call, [one]) for call, one in zip(calls, samples, strict=True)]
            results = zip(begun, calls, samples, strict=True)
            return [score for waiting, call, one in results for score in self._result(waiting, call, [one])]
        return [
            score
            for call, one in zip(calls, samples, strict=True)
            for score in self._result(self._start(*call, [one]), call, [one])
        ]

    @property
    def waits(self) -> bool:
        """Always: nobody knows what a user's function does."""
        return True

    @property
    def at_once(self) -> bool:
        """A coroutine does. A plain function may keep state."""
        return self.user.signature.is_async

    def close(self) -> None:
        """End the function's process, if it has one."""
        if self.worker is not None:
            self.worker.close()

    def _start(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], samples: Sequence[Sample]
    ) -> Callable[[], list[Any] | str]:
        """Begin a call. Calling the result waits for what it returned: a list, or the name of another type."""
        if self.worker is not None:
            return lambda: self._from_worker(args, kwargs, len(samples))
        assert self.user.function is not None
        begin = self._loop.start if self.user.signature.is_async else start
        future = begin(self.user.function, args, kwargs)
        return lambda: returned_list(wait(future, self.timeout_seconds), self.user.signature.form)

    def _from_worker(self, args: tuple[Any, ...], kwargs: dict[str, Any], size: int) -> list[Any] | str:
        assert self.worker is not None
        reply = self.worker.call(args, kwargs, size, self.timeout_seconds)
        if "type" in reply:
            return str(reply["type"])
        for name, values in reply["metrics"].items():
            for value in values:
                kwargs["log_metric"](name, value)
        for name, values in reply["extras"].items():
            kwargs["log_extra"](name, values)
        return [NoNumber(**value) if isinstance(value, dict) else value for value in reply["values"]]

    def _result(
        self,
        waiting: Callable[[], list[Any] | str],
        call: tuple[tuple[Any, ...], dict[str, Any]],
        samples: Sequence[Sample],
    ) -> list[Score]:
        for left in range(self.retries, -1, -1):
            try:
                return self._checked(waiting(), samples)
            except Exception as error:
                if isinstance(error, Timeout):
                    self._loop.abandon()
                if left == 0:
                    raise self._explained(error, samples) from error
                waiting = self._start(*call, samples)
        raise AssertionError("the loop above returns or raises")

    def _checked(self, returned: list[Any] | str, samples: Sequence[Sample]) -> list[Score]:
        """The returned values as checked scores."""
        if isinstance(returned, str):
            raise RewardError(
                f"returned {returned} instead of a list of {len(samples)} scores",
                where=f"rewards.{self.name}, {self.user.source}",
                hint="Return a list with one number or None for each completion.",
            )
        if len(returned) != len(samples):
            raise RewardError(
                f"returned {len(returned)} scores for {len(samples)} completions",
                where=f"rewards.{self.name}, {self.user.source}",
                hint="Return a list with one number or None for each completion.",
            )
        return [
            Score(checked(value, f"rewards.{self.name}, case {sample.case.id}"))
            for value, sample in zip(returned, samples, strict=True)
        ]

    def _explained(self, error: Exception, samples: Sequence[Sample]) -> RewardError:
        """The failure of the last try as an error with a hint."""
        tries = f" (tried {self.retries + 1} times)" if self.retries else ""
        cases = ", ".join(list(dict.fromkeys(sample.case.id for sample in samples))[:3])
        where = f"rewards.{self.name}, {{}}, case {cases}"
        if isinstance(error, RewardError):
            return RewardError(error.what + tries, where=error.where, hint=error.hint)
        if isinstance(error, Failed):
            printed = f". The last that it printed:\n{error.printed}\n" if error.printed else ""
            return RewardError(
                f"the reward {error}{tries}{printed}",
                where=where.format(error.place or (self.worker.use if self.worker else self.user.source)),
                hint=error.hint,
            )
        if isinstance(error, Timeout):
            return RewardError(
                f"the reward gave {error}{tries}",
                where=where.format(self.user.source),
                hint=f"Make it faster, or raise rewards.{self.name}.timeout_seconds.",
            )
        return RewardError(
            f"the reward raised {describe(error)}{tries}",
            where=where.format(place_of(error, self.user.source)),
            hint=HINT,
        )


@dataclass(frozen=True)
class NoNumber:
    """What a function in another process returned as a score, by its text."""

    text: str

    def __repr__(self) -> str:
        return self.text


def checked(value: Any, where: str) -> float | None:
    """A score as a float, or None. RewardError for anything else."""
    if value is None:
        return None
    if hasattr(value, "item"):  # scalars of NumPy and torch
        value = value.item()
    if not isinstance(value, Real):
        raise RewardError(f"returned {value!r:.80}, which is no number", where=where, hint=HINT)
    number = float(value)
    if not math.isfinite(number):
        raise RewardError(f"returned {number}", where=where, hint=HINT)
    return number
