"""A run's readings so far, and how much one has changed since the run's own earlier rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from grandrounds.training.monitor.readings import ACCURACY, Reading
from grandrounds.training.progress import MetricsRow

# Standard errors that count as clear: one-sided p = 3e-5. A run of some hundred rounds is looked at thousands of times.
CLEARLY = 4.0
# Where a component was seen to pay for a change, there are two witnesses: half of the change is enough, at p = 0.001.
PAID_SHARE, PAID_CLEARLY = 0.5, 3.0
# Two accuracies closer than so many standard errors are called equal.
EQUAL = 2.0
# Rounds that are averaged, and groups that must be among them: fewer say too little about their own spread.
WINDOW, LEAST_GROUPS = 5, 30


@dataclass(frozen=True)
class Change:
    """A reading in an earlier window and in the newest one."""

    before: Reading
    now: Reading

    @property
    def difference(self) -> float:
        return self.now.mean - self.before.mean

    @property
    def errors(self) -> float:
        """The difference in standard errors: infinite where neither window has any spread."""
        error = math.hypot(self.before.error, self.now.error)
        if error:
            return self.difference / error
        return math.copysign(math.inf, self.difference) if self.difference else 0.0

    @property
    def ratio(self) -> float:
        """Now divided by before; infinite where it was 0."""
        return self.now.mean / self.before.mean if self.before.mean else math.inf

    def clear(self, least: float, *, paid: bool = False) -> bool:
        """Whether it has risen by at least so much (fallen, where `least` is negative), and clearly.

        paid: a component of the reward was seen to pay for it.
        """
        way = math.copysign(1.0, least)
        share, errors = (PAID_SHARE, PAID_CLEARLY) if paid else (1.0, CLEARLY)
        return way * self.difference >= share * abs(least) and way * self.errors >= errors

    def scaled(self, least: float, *, paid: bool = False) -> bool:
        """Whether it has clearly grown by at least this factor above 1 (shrunk, by one below 1)."""
        return self.clear((least - 1) * self.before.mean, paid=paid)


Shown = Callable[[Change], bool]


@dataclass(frozen=True)
class History:
    """Readings, rows of metrics.jsonl, and rows of evaluations.jsonl, each oldest first; the last round is now."""

    rounds: Sequence[Mapping[str, Reading]]
    metrics: Sequence[MetricsRow]
    evaluations: Sequence[MetricsRow] = ()

    def since_start(self, name: str, shown: Shown) -> Change | None:
        """A reading's change since the run's first rounds, where `shown` says that it is one."""
        return next(filter(shown, self._changes(name, 0)), None)

    def at_equal_accuracy(self, name: str, shown: Shown) -> Change | None:
        """Its change since the earliest rounds that were as accurate as the newest ones, or more so.

        What has changed along with accuracy is so not mistaken for a change by itself. Without accuracy (no gold
        answers): since the first rounds.
        """
        size, now = self._size(name), self.newest(ACCURACY)
        if now is None:
            return self.since_start(name, shown)
        for start in range(len(self.rounds) - size):
            accuracy = self._pooled(ACCURACY, start, size)
            if accuracy is not None and Change(accuracy, now).errors <= EQUAL:
                return next(filter(shown, self._changes(name, start)), None)
        return None

    def since_best(self, name: str, shown: Shown) -> Change | None:
        """Its change since the rounds in which it was highest."""
        starts = range(len(self.rounds) - self._size(name))
        found = [change for start in starts for change in self._changes(name, start) if shown(change)]
        return max(found, key=lambda change: change.before.mean, default=None)

    def newest(self, name: str) -> Reading | None:
        """A reading in the newest rounds."""
        size = self._size(name)
        return self._pooled(name, len(self.rounds) - size, size)

    def _changes(self, name: str, start: int) -> Iterator[Change]:
        """From a window to the newest rounds: to as many, which shows slow changes, then to as few as will do."""
        size = self._size(name)
        before = self._pooled(name, start, size)
        for newest in (size, self._least(name)):
            now = self._pooled(name, len(self.rounds) - newest, newest)
            if before is not None and now is not None and start + size + newest <= len(self.rounds):
                yield Change(before, now)

    def _size(self, name: str) -> int:
        """Rounds in a window: `WINDOW` once there are twice as many; before that as few as have enough groups."""
        return max(self._least(name), min(WINDOW, len(self.rounds) // 2))

    def _least(self, name: str) -> int:
        """As few rounds as have enough groups."""
        groups = next((row[name].groups for row in reversed(self.rounds) if name in row), LEAST_GROUPS)
        return math.ceil(LEAST_GROUPS / groups)

    def _pooled(self, name: str, start: int, size: int) -> Reading | None:
        """The mean of a reading over rounds. None where these are not all there or have too few groups."""
        if start < 0 or start + size > len(self.rounds):
            return None
        found = [row[name] for row in self.rounds[start : start + size] if name in row]
        groups = sum(one.groups for one in found)
        if groups < LEAST_GROUPS / 2 or len(found) < size / 2:
            return None
        mean = sum(one.mean * one.groups for one in found) / groups
        error = math.sqrt(sum((one.error * one.groups) ** 2 for one in found)) / groups
        return Reading(mean, error, groups)
