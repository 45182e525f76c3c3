"""The time left of a command that has several stages, such as a demo."""

from __future__ import annotations

import time
from collections.abc import Mapping

from grandrounds.training.progress import duration

# Expected seconds after which what was seen says more than what was expected.
TRUSTED = 15.0
# Of the product that is timed: rows as in an update, a layer's width.
ROWS, SIZE = 512, 512
MEASURED = 0.5  # seconds


class Whole:
    """How far a command is, over all of its stages.

    seconds: stage, in order -> seconds expected on the reference machine. pace: this machine's seconds for one there.
    """

    def __init__(self, seconds: Mapping[str, float], pace: float = 1.0) -> None:
        self._seconds, self._pace = dict(seconds), pace
        self._done = self._skipped = 0.0  # expected seconds; skipped: done by an earlier command
        self._began = time.monotonic()

    def reach(self, stage: str, share: float) -> None:
        """The stage is done to this share, in [0, 1], and all stages before it wholly."""
        names = list(self._seconds)
        before = sum(self._seconds[name] for name in names[: names.index(stage)])
        self._done = max(self._done, before + share * self._seconds[stage])

    def skip(self, stage: str, share: float) -> None:
        """As `reach`, for what an earlier command has done: it says nothing about this machine's pace."""
        before = self._done
        self.reach(stage, share)
        self._skipped += self._done - before

    @property
    def share(self) -> float:
        """What is done, in [0, 1]."""
        return self._done / sum(self._seconds.values())

    @property
    def left(self) -> float:
        """Seconds left."""
        seen, passed = self._done - self._skipped, time.monotonic() - self._began
        pace = passed / seen if seen > TRUSTED else self._pace
        return pace * (sum(self._seconds.values()) - self._done)

    def __str__(self) -> str:
        return f"all {self.share:.0%}, {duration(self.left)} left"


def pace_of_products(reference: float) -> float:
    """How many times as long this machine takes for products in float32 as one with `reference` GFLOP/s."""
    import torch

    from grandrounds.kernels.products import linear, packed

    states, weight, best = torch.ones(ROWS, SIZE), packed(torch.ones(SIZE, SIZE)), float("inf")
    until = time.perf_counter() + MEASURED
    while (began := time.perf_counter()) < until:
        linear(states, weight)
        best = min(best, time.perf_counter() - began)
    return reference / (2 * ROWS * SIZE * SIZE / best / 1e9)
