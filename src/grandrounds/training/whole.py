"""The time left of what has several stages: a run with its warm-up and rounds, a demo with two runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from grandrounds.shares import percent

# Seconds after which what was seen of a stage says more than a pace that was measured before.
TRUSTED = 15.0
# What an earlier command has timed counts at most like so many seconds of this one: the machine may be another.
REMEMBERED = 60.0
# Of a stage: some of its work, and the seconds that it took.
Timed = tuple[float, float]
NEVER: Timed = (0.0, 0.0)


@dataclass
class _Stage:
    """A stage's work, what is done of it, and what of that was seen being done, in how many seconds.

    before: what an earlier command timed of it. skipped: the work that an earlier command has done. prepared: nothing
    is left to prepare in its first report.
    """

    work: float
    done: float = 0.0
    seen: float = 0.0
    passed: float = 0.0
    first: Timed | None = None  # of the first report
    before: Timed = NEVER
    skipped: float = 0.0
    prepared: bool = False

    def advance(self, to: float, passed: float) -> None:
        """The stage is done to here, which took so many seconds."""
        if (more := to - self.done) <= 0:
            return
        self.done, self.seen, self.passed = to, self.seen + more, self.passed + passed
        self.first = self.first or (more, passed)

    @property
    def settled(self) -> bool:
        """Whether more than its first report was seen: in that is what has to be prepared."""
        return self.before[0] > 0 or (self.first is not None and self.seen > self.first[0])

    @property
    def now(self) -> Timed:
        """What was seen, without its first report where there are others."""
        left_out = NEVER if self.first is None or self.prepared or not self.settled else self.first
        return self.seen - left_out[0], self.passed - left_out[1]

    @property
    def ever(self) -> Timed:
        """What was seen now and before."""
        (work, seconds), (more, passed) = self.before, self.now
        return work + more, seconds + passed

    @property
    def pace(self) -> float | None:
        """Seconds for one of its work, as seen now and before; None where nothing was."""
        (work, seconds), (more, passed) = self.before, self.now
        weight = min(1.0, REMEMBERED / seconds) if seconds else 0.0
        known = weight * work + more
        return (weight * seconds + passed) / known if known else None

    def took(self, pace: float) -> float:
        """Seconds for what is done: what an earlier command has done at its pace, where that is known."""
        work, seconds = self.before
        return self.skipped * (seconds / work if work else pace) + (self.done - self.skipped) * pace


class Whole:
    """How far a run or command is, over all of its stages.

    work: stage, in order -> work in any unit; where there is a pace, in seconds expected on the reference machine.
    pace: this machine's seconds for one there. None: only what was seen tells, and a stage not seen yet is not told.
    prepared: nothing has to be prepared within the stages, so that the first report of each is as good as others.
    """

    def __init__(
        self, work: Mapping[str, float], pace: float | None = None, *, prepared: bool = False
    ) -> None:
        self._stages = {name: _Stage(amount, prepared=prepared) for name, amount in work.items()}
        self._pace = pace
        self._last = time.monotonic()

    def remember(self, timed: Mapping[str, Timed]) -> None:
        """What earlier commands have timed, as `timed` told them. Call it before `skip`."""
        for name, (work, seconds) in timed.items():
            self._stages[name].before = (work, seconds)

    @property
    def timed(self) -> dict[str, Timed]:
        """Of each stage that was seen: work and its seconds, over all commands."""
        return {name: one.ever for name, one in self._stages.items() if one.ever[0] > 0}

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
            if (to := one.work * (share if name == stage else 1.0)) > one.done:
                one.done, one.skipped = to, one.skipped + to - one.done
        self._last = time.monotonic()

    @property
    def share(self) -> float:
        """What is done, in [0, 1], each stage weighed by its seconds as far as they are known."""
        known = [(one, self._pace_of(one) or self._overall or 1.0) for one in self._stages.values()]
        done = sum(one.took(pace) for one, pace in known)
        left = sum((one.work - one.done) * pace for one, pace in known)
        return done / (done + left) if done + left else 1.0

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
        work, seconds = (sum(pair) for pair in zip(*(one.ever for one in self._stages.values()), strict=True))
        return seconds / work if work else None

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
