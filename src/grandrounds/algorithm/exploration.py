"""Keeps the policy exploring: an entropy bonus that adapts to a target, and updates by uncertain tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grandrounds.algorithm import ranks
from grandrounds.algorithm.packing import Pack


@dataclass(frozen=True)
class EntropyTarget:
    """How the entropy bonus adapts. entropy: the target, in nats. step, most: of the weight."""

    entropy: float
    step: float
    most: float


@dataclass(frozen=True)
class EntropyBonus:
    """The weight of the entropy bonus, which adapts where there is a target (Skywork-OR1, arXiv:2505.22312).

    The weight grows by one step after every optimizer step whose entropy is at or below the target, and shrinks by one
    after every other. It is applied only after a step at or below the target.

    entropy: the mean of the last optimizer step's tokens; None before the first.
    """

    weight: float
    target: EntropyTarget | None = None
    entropy: float | None = None

    @property
    def applied(self) -> float:
        """The weight at the next optimizer step."""
        return 0.0 if self.target is not None and not self._low(self.entropy) else self.weight

    def after(self, entropy: float) -> EntropyBonus:
        """The bonus after an optimizer step with this entropy."""
        if self.target is None:
            return self
        step = self.target.step if self._low(entropy) else -self.target.step
        return replace(self, weight=min(max(self.weight + step, 0.0), self.target.most), entropy=entropy)

    def _low(self, entropy: float | None) -> bool:
        return self.target is not None and entropy is not None and entropy <= self.target.entropy


def most_uncertain(
    packs: Sequence[Pack], entropies: Sequence[Tensor], share: float, device: torch.device
) -> list[Pack]:
    """The packs of this process, in which only tokens of high entropy count (arXiv:2506.01939).

    entropies: [C] of each pack. share: of the optimizer step's tokens, over all processes. A token as uncertain as the
    last of them counts too.
    """
    none = torch.zeros(0, dtype=torch.float64, device=device)
    every = ranks.concatenate(torch.cat([none, *(values.double() for values in entropies)])).cpu().numpy()
    if not len(every):
        return list(packs)
    threshold = float(np.quantile(every, 1 - share))
    per_token = 1.0 / int((every >= threshold).sum())
    return [
        replace(pack, counted=(values.double() >= threshold).to(pack.weights.dtype), per_token=per_token)
        for pack, values in zip(packs, entropies, strict=True)
    ]
