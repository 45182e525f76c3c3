"""The clipped objective, and what each token counts in it.

For completion i (of all groups), token t, with ratio ρ = π(token) / π_behaviour(token):

    token loss   ℓ_it = -min(ρ A_i, clip(ρ, 1 - clip_low, 1 + clip_high) A_i) + β k3
    k3           π_ref/π - log(π_ref/π) - 1 ≥ 0, an unbiased estimate of KL(π || π_ref)
    loss         Σ_it w_i ℓ_it

Sources: arXiv:2402.03300 eq. 3 and 4 (GRPO, k3); arXiv:2503.14476 (separate clips). Because every weight w_i
comes from totals counted over the whole optimizer step or round, the sum may be cut into any parts: nothing
is averaged here. `LOSSES` says what w_i is, and which objective is summed.
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


def _grpo(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """Mean over completions of each one's mean over its tokens: 1 / (N |o_i|). arXiv:2402.03300 eq. 3."""
    return 1.0 / (totals.completions * lengths)


def _bnpo(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """Mean over the step's active tokens: 1 / Σ|o|. TRL's `bnpo` with the batch being the optimizer step."""
    return np.full(len(lengths), 1.0 / max(1, totals.active_tokens))


def _dapo(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """Every active token of the round counts the same, whichever its step. arXiv:2503.14476.

    steps_per_pass / (active tokens of the round): with one step per pass it is `bnpo`; with several, steps
    that hold more tokens move the policy more, and the mean over the steps of a pass is the round's token
    mean.
    """
    return np.full(len(lengths), totals.steps_per_pass / max(1, totals.round_active_tokens))


def _dr_grpo(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """A constant that knows no length: 1 / (N · max_new_tokens). arXiv:2503.20783, section 3.2."""
    return np.full(len(lengths), 1.0 / (totals.completions * totals.max_new_tokens))


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


def clipped(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """GRPO's clipped objective with the k3 penalty: the formulas above."""
    ratio = (inputs.logprobs - inputs.behaviour).exp()
    bounded = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    token_loss = -torch.minimum(ratio * inputs.advantages, bounded * inputs.advantages)
    statistics = ratio_statistics(inputs, settings)
    if inputs.reference is not None:
        kl = k3(inputs.reference - inputs.logprobs)
        token_loss = token_loss + settings.beta * kl
        statistics["kl"] = kl.detach()
    return (inputs.weights * token_loss).sum(), statistics


LOSSES: dict[str, Loss] = {
    "grpo": Loss(clipped, _grpo),
    "bnpo": Loss(clipped, _bnpo),
    "dapo": Loss(clipped, _dapo),
    "dr_grpo": Loss(clipped, _dr_grpo),
}


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


def token_weights(
    name: str,
    lengths: np.ndarray,  # [M] > 0
    active: np.ndarray,  # [M] bool
    totals: Totals,
) -> np.ndarray:
    """What each token of each completion counts, float64 [M]; 0 for completions that are not active."""
    return np.where(active, LOSSES[name].weights(lengths, totals), 0.0)


def k3(difference: Tensor) -> Tensor:
    """exp(x) - x - 1 for x = log q - log p of a token drawn from p: never negative, expectation KL(p || q).

    expm1 keeps the digits that exp(x) - 1 would cancel near 0.
    """
    return torch.expm1(difference) - difference


def likelihood_loss(
    logprobs: Tensor,  # [C]
    weights: Tensor,  # [C]
) -> Tensor:
    """Negative log-likelihood, for supervised fine-tuning."""
    return -(weights * logprobs).sum()
