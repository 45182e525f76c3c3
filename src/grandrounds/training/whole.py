"""The time left of what has several stages: a run with its warm-up and rounds, a demo with two runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from grandrounds.shares import percent

# Seconds after which what was seen of a stage says more than a pace that was measured before.
TRUSTED = 15.0


@dataclass
class _Stage:
    """A stage's work, what is done of it, and what of that was seen being done, in how many seconds."""

    work: float
    done: float = 0.0
    seen: float = 0.0
    passed: float = 0.0
    first: tuple[float, float] | None = None  # of the first report: work, seconds

    def advance(self, to: float, passed: float) -> None:
        """The stage is done to here, which took so many seconds."""
        if (more := to - self.done) <= 0:
            return
        self.done, self.seen, self.passed = to, self.seen + more, self.passed + passed
        self.first = self.first or (more, passed)

    @property
    def settled(self) -> bool:
        """Whether more than its first report was seen: in that is what has to be prepared."""
        return self.first is not None and self.seen > self.first[0]

    @property
    def pace(self) -> float | None:
        """Seconds for one of its work, without its first report where there are others; None before any."""
        if self.first is None:
            return None
        work, passed = self.first if self.settled else (0.0, 0.0)
        return (self.passed - passed) / (self.seen - work)


class Whole:
    """How far a run or command is, over all of its stages.

    work: stage, in order -> work in any unit; where there is a pace, in seconds expected on the reference machine.
    pace: this machine's seconds for one there. None: only what was seen tells, and a stage not seen yet is not told.
    """

    def __init__(self, work: Mapping[str, float], pace: float | None = None) -> None:
        self._stages, self._pace = {name: _Stage(amount) for name, amount in work.items()}, pace
        self._last = time.monotonic()

    def reach(self, stage: str, share: float) -> None:
        """The stage is done to this share, in [0, 1], and all stages before it wholly."""
        passed = time.monotonic() - self._last
        self.skip(stage, 0.0)
        self._stages[stage].advance(share * self._stages[stage].work, passed)

    def skip(self, stage: str, share: float) -> None:
        """As `reach`, for what an earlier command has done: it says nothing about this machine's pace."""
        names = list(self._stages)
        for name in names[: names.index(stage) + 1]:
            one = self._stages[name]
            one.done = max(one.done, one.work * (share if name == stage else 1.0))
        self._last = time.monotonic()

    @property
    def share(self) -> float:
        """What is done, in [0, 1], each stage weighed by its seconds as far as they are known."""
        known = [(one, self._pace_of(one) or self._overall or 1.0) for one in self._stages.values()]
        whole = sum(one.work * pace for one, pace in known)
        return sum(one.done * pace for one, pace in known) / whole if whole else 1.0

    @property
    def left(self) -> float:
        """Seconds left of the stages whose pace is known."""
        return sum((one.work - one.done) * (self._pace_of(one) or 0.0) for one in self._stages.values())

    @property
    def words(self) -> str:
        """The time left in words: with "about" while a stage is little known, "" where nothing is known."""
        ahead = {name: one for name, one in self._stages.items() if one.done < one.work}
        unknown = [name for name, one in ahead.items() if self._pace_of(one) is None]
        if ahead and len(unknown) == len(ahead):
            return ""
        rough = self._pace is None and any(not one.settled for one in ahead.values() if one.first)
        told = f"{'about ' if rough else ''}{duration(self.left)}"
        return f"{told}, then {', '.join(unknown)}" if unknown else f"{told} left"

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"all {percent(self.share, 0)}", self.words)))

    @property
    def _overall(self) -> float | None:
        """Seconds for one of the work of all stages."""
        if self._pace is not None and sum(one.passed for one in self._stages.values()) <= TRUSTED:
            return self._pace
        known = [(one.seen, pace) for one in self._stages.values() if (pace := one.pace) is not None]
        return sum(seen * pace for seen, pace in known) / sum(seen for seen, _ in known) if known else None

    def _pace_of(self, stage: _Stage) -> float | None:
        if self._pace is None or stage.passed > TRUSTED:
            return stage.pace
        return self._overall


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
