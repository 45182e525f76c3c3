"""Wrong options as frequent as right ones, so that knowing which diagnoses are frequent pays nothing.

Without this, hard rivals are the diagnoses that resemble the case, whatever their frequency. A policy that reads no
finding and takes the option that is most often right then scores far above chance (docs/RESULTS.md).
"""

from __future__ import annotations

import numpy as np

STEPS = 300
# Handicaps change by so much of the logarithm by which a diagnosis is offered too rarely, less and less.
FIRST_STEP = 4.0


def handicaps(scores: np.ndarray, gold: np.ndarray, rivals: int, pool: int) -> np.ndarray:
    """What to add to each label's score [L], so that it is a rival `rivals` times as often as it is right.

    scores: [N, L] how hard each label is to tell from the case's own. gold: [N] the right labels. rivals: wrong options
    of a case, drawn evenly from the `pool` labels of the highest sums. A label that is right in more than a share of
    1 / (rivals + 1) of the cases cannot be offered often enough; it is then offered as often as possible. Rounded, so
    that they may be written down.

    The handicaps are the prices of an assignment with quotas, found by steps that shrink (a dual ascent, as in
    Bertsekas's auction algorithm); those of the best step are taken.
    """
    count, labels = scores.shape
    pool = min(pool, labels - 1)
    right = np.bincount(gold, minlength=labels)
    wanted = np.minimum(rivals * right, count - right).astype(float)
    wanted *= rivals * count / wanted.sum()
    open_to = scores.copy()
    open_to[np.arange(count), gold] = -np.inf
    added, best, least = np.zeros(labels), np.zeros(labels), np.inf
    for step in range(STEPS):
        chosen = np.argpartition(-(open_to + added), pool - 1, axis=1)[:, :pool]
        offered = np.bincount(chosen.ravel(), minlength=labels) * (rivals / pool)
        missed = float(np.abs(offered - wanted).sum())
        if missed < least:
            best, least = added.copy(), missed
        added += FIRST_STEP / (1 + step / 20) * np.log((wanted + 1) / (offered + 1))
    return np.round(best - best.mean(), 3)
