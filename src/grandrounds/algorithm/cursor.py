"""Chooses the cases of a round: a keyed shuffle of all cases for each epoch, read on from a position.

The only state is the position, the number of cases drawn since the run began. So a resumed run draws what the
uninterrupted run would have drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, eq=False)
class Weights:
    """How often each case is drawn in an epoch, on average: float64 [cases], of mean 1."""

    values: np.ndarray


def take(cases: int, start: int, count: int, seed: int, weights: Weights | None = None) -> list[int]:
    """Indices in [0, cases) of the `count` cases drawn after `start` earlier ones.

    Every epoch visits each case once, or as often as its weight says, in its own order. Where a draw crosses from one
    epoch into the next, a case that the draw already has is replaced by one that it does not have. Only a draw of more
    cases than there are holds a case twice.
    """
    if cases < 1:
        raise ValueError("there are no cases to draw from")
    drawn = [_at(cases, position, seed, weights) for position in range(start, start + count)]
    if len(set(drawn)) == count or count > cases:
        return drawn
    chosen = list(dict.fromkeys(drawn))
    position = start + count
    while len(chosen) < count:
        further = _at(cases, position, seed, weights)
        if further not in chosen:
            chosen.append(further)
        position += 1
    return chosen


def _at(cases: int, position: int, seed: int, weights: Weights | None) -> int:
    epoch, place = divmod(position, cases)
    return int(_order(cases, epoch, seed, weights)[place])


@lru_cache(maxsize=4)
def _order(cases: int, epoch: int, seed: int, weights: Weights | None) -> np.ndarray:
    """The order of the cases in one epoch, int64 [cases]: ranks of raw random bits, the same in every numpy version."""
    digest = hashlib.blake2b(f"cases\x1f{seed}\x1f{epoch}".encode(), digest_size=16).digest()
    random = np.random.Philox(key=int.from_bytes(digest, "little"))
    order = np.argsort(random.random_raw(cases), kind="stable")
    return order if weights is None else order[_resampled(weights.values[order], random)]


def _resampled(weights: np.ndarray, random: np.random.Philox) -> np.ndarray:
    """Places [cases], each as often as its weight [cases] rounded down or up, shuffled: systematic resampling."""
    count = len(weights)
    edges = np.cumsum(weights) * (count / weights.sum())
    points = np.arange(count) + random.random_raw() / 2**64
    places = np.minimum(np.searchsorted(edges, points, side="right"), count - 1)
    return places[np.argsort(random.random_raw(count), kind="stable")]
