"""Corrects for a sampler whose log-probs are not quite the policy's: another program, precision or version.

    c = π_old / π_sampler,   π_old the policy before the round's first step

Ratios of the loss are then taken to π_old, and each token's loss is multiplied by c, which is kept in bounds: truncated
to them (TIS), or 0 outside of them (MIS). Of each token, or of the whole completion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from grandrounds.algorithm.loss import over_completions
from grandrounds.recipe import CorrectionKind


@dataclass(frozen=True)
class Correction:
    """How c is computed. low: None for no lower bound."""

    kind: CorrectionKind
    high: float
    low: float | None = None

    def of(self, old: Tensor, sampled: Tensor, offsets: np.ndarray) -> Tensor:
        """c [C] from log-probs [C] of the old policy and of the sampler."""
        difference = old - sampled
        if self.kind.startswith("sequence"):
            difference = over_completions(difference, offsets)
        ratio = difference.exp()
        if self.kind.endswith("truncate"):
            return ratio.clamp(self.low, self.high)
        outside = (ratio > self.high) | (ratio < (self.low or 0.0))
        return ratio.masked_fill(outside, 0.0)
