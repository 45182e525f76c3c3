"""VESPO (arXiv:2602.10693): a smooth weight of the whole completion's ratio instead of a clip.

    ℓ = -φ(W) · A · log π,   W = Π over the completion's tokens of ρ
    φ(W) = W^k exp(λ (1 - W)),   φ(1) = 1, without gradient

A correction for the sampler multiplies ρ. k and λ are k_positive and lambda_positive where A ≥ 0, else k_negative and
lambda_negative. φ is computed in logs; log W is kept within log 1e-8 and 20.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from grandrounds.algorithm.grpo import per_round_token
from grandrounds.algorithm.loss import Loss, LossInputs, LossSettings, over_completions, penalised, ratios

SMALLEST, LARGEST = math.log(1e-8), 20.0


def vespo(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w ℓ over tokens."""
    weight = _weight(inputs, settings)
    token_loss = -weight * inputs.advantages * inputs.logprobs
    uncorrected = replace(inputs, correction=None)  # it is in W
    return penalised(token_loss, ratios(inputs, settings), uncorrected, settings)


@torch.no_grad()
def _weight(inputs: LossInputs, settings: LossSettings) -> Tensor:
    """φ of each token's completion, [C]."""
    options, good = settings.options, inputs.advantages >= 0
    differences = (inputs.logprobs - inputs.behaviour).clamp(-LARGEST, LARGEST)
    if inputs.correction is not None:
        differences = differences + inputs.correction.log().clamp(SMALLEST, LARGEST)
    total = over_completions(differences, inputs.offsets).clamp(SMALLEST, LARGEST)
    k, rate = (
        torch.full_like(total, options["k_negative"]),
        torch.full_like(total, options["lambda_negative"]),
    )
    k[good], rate[good] = options["k_positive"], options["lambda_positive"]
    return (k * total + rate * (1 - total.exp())).exp()


VESPO = Loss(
    vespo,
    per_round_token,
    ratios=("token",),
    reason="it takes the ratio of the whole completion by itself",
    clips=False,
    options={"k_positive": 2.0, "lambda_positive": 3.0, "k_negative": 3.0, "lambda_negative": 2.0},
)
