"""What a loss is: a function of log-probs, advantages and weights, and what each token counts in it.

Because every weight comes from totals counted over the whole optimizer step or round, the sum over tokens may be cut
into any parts: nothing is averaged within a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Totals:
    """What weights are normalised by, counted outside of any pack.

    A completion is active unless it was cut off and truncated ones are masked. Groups without signal are
    active: they are not forwarded, but they count, so leaving them out changes speed and not the objective.
    """

    completions: int  # all completions of this optimizer step, masked ones included
    active_tokens: int  # tokens of the active completions of this optimizer step
    round_active_tokens: int  # tokens of the active completions of the whole round
    steps_per_pass: int  # optimizer steps in which one pass over the round is made
    max_new_tokens: int  # the longest completion allowed


@dataclass(frozen=True, eq=False)
class LossInputs:
    """What a loss is computed from: M completions of C tokens in all, one behind the other."""

    logprobs: Tensor  # [C], with gradient
    behaviour: Tensor  # [C], of the policy that sampled
    advantages: Tensor  # [C]
    weights: Tensor  # [C], 0 where a token does not count
    offsets: np.ndarray  # [M + 1], completion m has the tokens offsets[m] … offsets[m + 1] - 1
    reference: Tensor | None = None  # [C], of the reference policy; there where beta > 0


@dataclass(frozen=True)
class LossSettings:
    """Numbers that losses share."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    beta: float = 0.0


# The sum over tokens that is descended, and per-token statistics [C] without gradient, `ratio` among them.
Objective = Callable[[LossInputs, LossSettings], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Loss:
    """An objective, and what each token of a completion counts in it: float64 [M] of lengths [M] and totals."""

    objective: Objective
    weights: Callable[[np.ndarray, Totals], np.ndarray]

    def token_weights(
        self,
        lengths: np.ndarray,  # [M] > 0
        active: np.ndarray,  # [M] bool
        totals: Totals,
    ) -> np.ndarray:
        """What each token of each completion counts, float64 [M]; 0 for completions that are not active."""
        return np.where(active, self.weights(lengths, totals), 0.0)


@torch.no_grad()
def ratio_statistics(inputs: LossInputs, settings: LossSettings) -> dict[str, Tensor]:
    """Statistics [C] of ratios: `ratio`; `clip_low`, `clip_high`, 1 where a clip cuts the gradient off;
    `policy_kl`, k3 to the behaviour policy.
    """
    difference, advantages = inputs.logprobs - inputs.behaviour, inputs.advantages
    ratio = difference.exp()
    return {
        "ratio": ratio,
        "clip_low": ((ratio < 1 - settings.clip_low) & (advantages < 0)).to(ratio.dtype),
        "clip_high": ((ratio > 1 + settings.clip_high) & (advantages > 0)).to(ratio.dtype),
        "policy_kl": k3(-difference),
    }


def k3(difference: Tensor) -> Tensor:
    """exp(x) - x - 1 for x = log q - log p of a token drawn from p: never negative, expectation KL(p || q).

    expm1 keeps the digits that exp(x) - 1 would cancel near 0.
    """
    return torch.expm1(difference) - difference


def likelihood(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihood, for supervised fine-tuning: behaviour and advantages are not looked at."""
    return -(inputs.weights * inputs.logprobs).sum(), {}
