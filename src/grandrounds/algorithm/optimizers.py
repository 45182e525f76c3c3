"""AdamW with moments in float32 or 8 bits; or Muon for the matrices of hidden layers, with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grandrounds.algorithm.muon import Muon
from grandrounds.algorithm.rounding import RoundingAdamW

Optimizer = Literal["adamw", "adamw_8bit", "muon"]

# beta2 is 0.95 rather than 0.999: a run has a few hundred steps, and the gradient's size changes within tens of steps.
BETAS = (0.9, 0.95)


def build_optimizers(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    *,
    weight_decay: float,
    optimizer: Optimizer,
    betas: tuple[float, float] = BETAS,
) -> list[torch.optim.Optimizer]:
    """Optimizers that share a learning rate. Weight decay acts on matrices only, not on biases and norms.

    adamw_8bit: keep both moments in 8 bits a number instead of 32.
    muon: orthogonalise the momentum of the hidden layers' matrices (`muon`), scaled to AdamW's step size, so that one
    learning rate serves both. With it a small model built from scratch learns rare associations in about half the
    steps. Embeddings stay with AdamW. Weights in bfloat16 get the AdamW that rounds stochastically (`rounding`).
    """
    embeddings = {id(weight) for module in model.modules() for weight in _embedding_of(module)}
    muon, eight_bits = optimizer == "muon", optimizer == "adamw_8bit"
    hidden = [p for p in parameters.values() if muon and p.ndim == 2 and id(p) not in embeddings]
    taken = {id(parameter) for parameter in hidden}
    others = [parameter for parameter in parameters.values() if id(parameter) not in taken]
    rounded = [parameter for parameter in others if eight_bits or parameter.dtype == torch.bfloat16]
    plain = [] if eight_bits else [parameter for parameter in others if parameter.dtype != torch.bfloat16]
    optimizers: list[torch.optim.Optimizer] = []
    if plain:
        optimizers.append(torch.optim.AdamW(_groups(plain, weight_decay), betas=betas, fused=True))
    if rounded:
        groups = _groups(rounded, weight_decay)
        optimizers.append(RoundingAdamW(groups, betas=betas, eight_bits=eight_bits))
    if hidden:
        optimizers.append(Muon(hidden, weight_decay=weight_decay))
    return optimizers


def _groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _embedding_of(module: nn.Module) -> list[Tensor]:
    return [module.weight] if isinstance(module, nn.Embedding) else []
