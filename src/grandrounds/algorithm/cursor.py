"""Chooses the cases of a round: a keyed shuffle of all cases for each epoch, read on from a position.

The only state is the position, the number of cases drawn since the run began. So a resumed run draws what the
uninterrupted run would have drawn.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np


def take(cases: int, start: int, count: int, seed: int) -> list[int]:
    """Indices in [0, cases) of the `count` cases drawn after `start` earlier ones.

    Every epoch visits each case once, in its own order. Where a draw crosses from one epoch into the next, a case that
    the draw already has is replaced by one that it does not have. Only a draw of more cases than there are holds a
    case twice.
    """
    if cases < 1:
        raise ValueError("there are no cases to draw from")
    drawn = [_at(cases, position, seed) for position in range(start, start + count)]
    if len(set(drawn)) == count or count > cases:
        return drawn
    chosen = list(dict.fromkeys(drawn))
    position = start + count
    while len(chosen) < count:
        further = _at(cases, position, seed)
        if further not in chosen:
            chosen.append(further)
        position += 1
    return chosen


def _at(cases: int, position: int, seed: int) -> int:
    epoch, place = divmod(position, cases)
    return int(_order(cases, epoch, seed)[place])


@lru_cache(maxsize=4)
def _order(cases: int, epoch: int, seed: int) -> np.ndarray:
    """The order of the cases in one epoch, int64 [cases]: ranks of raw random bits, the same in every numpy version."""
    digest = hashlib.blake2b(f"cases\x1f{seed}\x1f{epoch}".encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(cases)
    return np.argsort(bits, kind="stable")
