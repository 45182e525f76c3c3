"""The parts of a loss: an objective of log-probs, advantages and weights, and the weight of each token in it.

Every weight comes from totals over the whole optimizer step or round, and nothing is averaged within a pack. So the
sum over tokens may be split in any way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Totals:
    """The totals that normalise weights, counted independently of packs.

    A completion is active unless it was truncated and truncated completions are masked. Groups without signal are
    active: they have no forward pass, but they count. So leaving them out changes the speed and not the objective.
    """

    completions: int  # all completions of this optimizer step, masked ones included
    active_tokens: int  # tokens of the active completions of this optimizer step
    round_active_tokens: int  # tokens of the active completions of the whole round
    steps_per_pass: int  # optimizer steps of one pass over the round
    max_new_tokens: int  # the longest completion allowed


@dataclass(frozen=True, eq=False)
class LossInputs:
    """The inputs of a loss: M completions, one after another, with C tokens in all."""

    logprobs: Tensor  # [C], with gradient
    behaviour: Tensor  # [C], log-probs under the policy that sampled
    advantages: Tensor  # [C]
    weights: Tensor  # [C], 0 where a token does not count
    offsets: np.ndarray  # [M + 1], completion m has the tokens offsets[m] … offsets[m + 1] - 1
    reference: Tensor | None = None  # [C], log-probs under the reference policy; given where beta > 0


@dataclass(frozen=True)
class LossSettings:
    """Settings that all losses share."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    beta: float = 0.0


# Returns the loss, a sum over tokens, and per-token statistics [C] without gradient, `ratio` among them.
Objective = Callable[[LossInputs, LossSettings], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Loss:
    """An objective, and the weight of each token of a completion: float64 [M] from lengths [M] and totals."""

    objective: Objective
    weights: Callable[[np.ndarray, Totals], np.ndarray]

    def token_weights(
        self,
        lengths: np.ndarray,  # [M] > 0
        active: np.ndarray,  # [M] bool
        totals: Totals,
    ) -> np.ndarray:
        """The weight of each completion's tokens, float64 [M]; 0 for completions that are not active."""
        return np.where(active, self.weights(lengths, totals), 0.0)


@torch.no_grad()
def ratio_statistics(inputs: LossInputs, settings: LossSettings) -> dict[str, Tensor]:
    """Statistics [C] of ratios: `ratio`; `difference`, |log ratio|; `clip_low` and `clip_high`, 1 where a clip removes
    the gradient; `policy_kl`, k3 to the behaviour policy.
    """
    difference, advantages = inputs.logprobs - inputs.behaviour, inputs.advantages
    ratio = difference.exp()
    return {
        "ratio": ratio,
        "difference": difference.abs(),
        "clip_low": ((ratio < 1 - settings.clip_low) & (advantages < 0)).to(ratio.dtype),
        "clip_high": ((ratio > 1 + settings.clip_high) & (advantages > 0)).to(ratio.dtype),
        "policy_kl": k3(-difference),
    }


def k3(difference: Tensor) -> Tensor:
    """exp(x) - x - 1 for x = log q - log p of a token drawn from p. Never negative; its expectation is KL(p || q).

    expm1 keeps the digits that exp(x) - 1 would cancel near 0.
    """
    return torch.expm1(difference) - difference


def likelihood(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihood, for supervised fine-tuning. It ignores behaviour log-probs and advantages."""
    return -(inputs.weights * inputs.logprobs).sum(), {}
