"""The parts of a loss: an objective of log-probs, advantages and weights, and the weight of each token in it.

Every weight comes from totals over the whole optimizer step or round, and nothing is averaged within a pack. So the
sum over tokens may be split in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from grandrounds.recipe import KlEstimate, RatioLevel


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
    correction: Tensor | None = None  # [C], for a sampler that differs from the policy before the first step
    entropy: Tensor | None = None  # [C], with gradient; given where there is an entropy bonus
    per_token: float = 0.0  # 1 / tokens of the optimizer step that have an entropy bonus
    counted: Tensor | None = None  # [C], 1 for tokens that are learned from, where not all are


@dataclass(frozen=True)
class LossSettings:
    """Settings that losses share; `docs/algorithms.md` has their formulas.

    ratio: of each token, or of the whole completion. delta: the largest ratio of a completion that is worse than its
    group; None: any. beta: weight of the KL to the reference. kl: its estimate. kl_correction: times the ratio.
    off_policy_limit: a completion that is worse than its group is left out where its mean log-ratio to the policy that
    sampled it is larger; None: none is. entropy_bonus: weight of the mean entropy of tokens, which is ascended.
    options: those of this loss alone.
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    beta: float = 0.0
    ratio: RatioLevel = "token"
    delta: float | None = None
    kl: KlEstimate = "k3"
    kl_correction: bool = False
    off_policy_limit: float | None = None
    entropy_bonus: float = 0.0
    options: Mapping[str, float] = field(default_factory=dict)


# Returns the loss, a sum over tokens, and per-token statistics [C] without gradient, `ratio` among them.
Objective = Callable[[LossInputs, LossSettings], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Loss:
    """An objective, and the weight of each token of a completion: float64 [M] from lengths [M] and totals.

    ratios: the values of `grpo.ratio` that it takes, and the reason where not both. clips: whether it clips ratios.
    options: its own settings with their defaults.
    """

    objective: Objective
    weights: Callable[[np.ndarray, Totals], np.ndarray]
    ratios: tuple[RatioLevel, ...] = ("token", "sequence")
    reason: str = ""
    clips: bool = True
    options: Mapping[str, float] = field(default_factory=dict)

    def token_weights(
        self,
        lengths: np.ndarray,  # [M] > 0
        active: np.ndarray,  # [M] bool
        totals: Totals,
    ) -> np.ndarray:
        """The weight of each completion's tokens, float64 [M]; 0 for completions that are not active."""
        return np.where(active, self.weights(lengths, totals), 0.0)


def ratios(inputs: LossInputs, settings: LossSettings) -> Tensor:
    """ρ = π / π_behaviour of each token [C]; or of its whole completion, as the geometric mean over its tokens (GSPO,
    arXiv:2507.18071, eq. 7)."""
    differences = inputs.logprobs - inputs.behaviour
    if settings.ratio == "sequence":
        differences = over_completions(differences, inputs.offsets, mean=True)
    return differences.exp()


def over_completions(values: Tensor, offsets: np.ndarray, *, mean: bool = False) -> Tensor:
    """For each token [C] the sum, or the mean, of its completion's values [C]."""
    lengths = torch.as_tensor(np.diff(offsets), device=values.device)
    which = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)
    totals = values.new_zeros(len(lengths)).index_add(0, which, values)
    return (totals / lengths if mean else totals)[which]


def penalised(
    token_loss: Tensor, ratio: Tensor, inputs: LossInputs, settings: LossSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w ℓ of a loss [C], of the tokens that count, without completions that are too far off the policy, corrected for
    the sampler, with the KL penalty of all tokens and the entropy bonus of those that count."""
    statistics = ratio_statistics(inputs, settings)
    if settings.off_policy_limit is not None:
        kept = near_policy(inputs, settings.off_policy_limit)
        token_loss = token_loss * kept
        statistics["off_policy"] = 1 - kept
    if inputs.counted is not None:
        token_loss = token_loss * inputs.counted
    if inputs.correction is not None:
        token_loss = token_loss * inputs.correction
        statistics["correction"] = inputs.correction
    if inputs.reference is not None:
        kl = kl_estimate(inputs.reference - inputs.logprobs, settings.kl)
        statistics["kl"] = kl.detach()
        token_loss = token_loss + settings.beta * (kl * ratio if settings.kl_correction else kl)
    total = (inputs.weights * token_loss).sum()
    if inputs.entropy is not None:
        entropy = inputs.entropy if inputs.counted is None else inputs.entropy * inputs.counted
        total = total - settings.entropy_bonus * inputs.per_token * entropy.sum()
    return total, statistics


@torch.no_grad()
def near_policy(inputs: LossInputs, limit: float) -> Tensor:
    """1 for tokens of completions that count, else 0, [C]: those at least as good as their group, and those whose mean
    of log π_behaviour / π is at most the limit (DeepSeek-V3.2, arXiv:2512.02556)."""
    drift = over_completions(inputs.behaviour - inputs.logprobs, inputs.offsets, mean=True)
    return ((inputs.advantages >= 0) | (drift <= limit)).to(inputs.logprobs.dtype)


def kl_estimate(difference: Tensor, kind: KlEstimate) -> Tensor:
    """An estimate of KL(p || q) by tokens drawn from p, from x = log q - log p (Schulman 2020, Approximating KL).

    k1   -x                unbiased, of either sign
    k2   x² / 2            biased; its gradient is that of the KL, in expectation
    k3   exp(x) - x - 1    unbiased and never negative
    """
    if kind == "k1":
        return -difference
    return difference.square() / 2 if kind == "k2" else k3(difference)


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
