"""CISPO (MiniMax-M1, arXiv:2506.13585, eq. 4 and 5): the clipped ratio is a weight without gradient.

    ℓ = -stop_gradient(min(ρ, 1 + clip_high)) · A · log π

No token's gradient is cut off, only its weight is bounded. There is no lower bound, as in the paper's experiments.
"""

from __future__ import annotations

from torch import Tensor

from grandrounds.algorithm.grpo import per_round_token
from grandrounds.algorithm.loss import Loss, LossInputs, LossSettings, penalised, ratios


def cispo(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w ℓ over tokens."""
    ratio = ratios(inputs, settings)
    bounded = ratio.detach().clamp(max=1 + settings.clip_high)
    return penalised(-bounded * inputs.advantages * inputs.logprobs, ratio, inputs, settings)


CISPO = Loss(
    cispo,
    per_round_token,
    ratios=("token",),
    reason="each token's log-prob has a weight of its own",
    clips=False,
)
