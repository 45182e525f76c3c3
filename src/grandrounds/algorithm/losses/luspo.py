"""LUSPO (arXiv:2602.05261): GSPO's clipped ratio of whole completions, each completion counted by its length.

    loss = 1 / (N G) · Σ over completions of T · ℓ

GSPO's mean over a completion's tokens makes each of them count less the longer the completion is; here all tokens
count alike.
"""

from __future__ import annotations

import numpy as np

from grandrounds.algorithm.grpo import clipped
from grandrounds.algorithm.loss import Loss, Totals


def per_token_of_completions(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """1 / (N G) for every token: a mean over completions of sums over tokens."""
    return np.full(len(lengths), 1.0 / totals.completions)


LUSPO = Loss(
    clipped,
    per_token_of_completions,
    ratios=("sequence",),
    reason="it weighs a whole completion's ratio by the completion's length",
)
