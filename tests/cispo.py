"""CISPO (MiniMax-M1, arXiv:2506.13585, eq. 4 and 5), as somebody would add it: one file.

    loss   -Σ w · stop_gradient(min(ρ, 1 + clip_high)) · A · log π

The clipped ratio is a weight without gradient, so no token's gradient is cut off.
"""

from __future__ import annotations

from torch import Tensor

from grandrounds.algorithm.grpo import per_round_token
from grandrounds.algorithm.loss import Loss, LossInputs, LossSettings, ratio_statistics


def cispo(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    statistics = ratio_statistics(inputs, settings)
    bounded = statistics["ratio"].clamp(max=1 + settings.clip_high)
    return -(inputs.weights * bounded * inputs.advantages * inputs.logprobs).sum(), statistics


CISPO = Loss(cispo, per_round_token)
