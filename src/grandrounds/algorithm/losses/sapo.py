"""SAPO (arXiv:2511.20347): a soft gate instead of a clip.

    ℓ = -σ(τ (ρ - 1)) · 4 / τ · A,   τ = temperature_positive where A > 0, else temperature_negative

Near ρ = 1 it has the gradient of ρ A; away from it the gradient fades, faster for completions that are worse than
their group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grandrounds.algorithm.grpo import per_completion
from grandrounds.algorithm.loss import Loss, LossInputs, LossSettings, penalised, ratios


def sapo(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w ℓ over tokens."""
    ratio, options = ratios(inputs, settings), settings.options
    temperature = torch.full_like(ratio, options["temperature_negative"])
    temperature[inputs.advantages > 0] = options["temperature_positive"]
    gate = torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature
    return penalised(-gate * inputs.advantages, ratio, inputs, settings)


SAPO = Loss(
    sapo,
    per_completion,
    clips=False,
    options={"temperature_positive": 1.0, "temperature_negative": 1.05},
)
