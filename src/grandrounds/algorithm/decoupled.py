"""GDPO: every reward component is compared within its group by itself (arXiv:2601.05242).

When components are added up first, groups with different scores may have the same reward: being right in a bad form
counts like being wrong in a good one. Compared one by one, each component keeps its own signal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def decoupled_advantages(
    scores: np.ndarray,  # [K, N, G], NaN where a component does not apply
    weights: Sequence[float],  # [K]
    epsilon: float,
) -> np.ndarray:
    """Normalised first, summed afterwards, float64 [N, G]:

        a_k = (r_k - mean of the group) / (deviation of the group + ε)
        a   = Σ weight_k a_k
        A   = (a - mean of the batch) / (deviation of the batch + ε)

    A component that does not apply to a completion adds nothing there. Deviations divide by the count less one. Groups
    in which no component differs get exactly 0.
    """
    shown = ~np.isnan(scores)
    known = np.where(shown, scores, 0.0)
    counts = shown.sum(-1, keepdims=True)
    mean = known.sum(-1, keepdims=True) / np.maximum(counts, 1)
    centred = np.where(shown, scores - mean, 0.0)
    # Equal numbers may differ from their mean in the last bit, which the division would make a signal of.
    highest = np.where(shown, scores, -np.inf).max(-1, keepdims=True)
    lowest = np.where(shown, scores, np.inf).min(-1, keepdims=True)
    differ = highest > lowest
    deviation = np.sqrt((centred**2).sum(-1, keepdims=True) / np.maximum(counts - 1, 1))
    compared = np.where(differ, centred / (deviation + epsilon), 0.0)
    summed = np.tensordot(np.asarray(weights, np.float64), compared, 1)  # [N, G]
    made = (summed - summed.mean()) / (summed.std(ddof=1) + epsilon)
    made[~differ[..., 0].any(0)] = 0.0
    return made
