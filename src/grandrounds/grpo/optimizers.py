"""AdamW, or Muon for the hidden layers' matrices with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grandrounds.grpo.rounding import RoundingAdamW

# beta2 0.95 rather than 0.999: a run has a few hundred steps, and the gradient's size changes within tens of
# them.
BETAS = (0.9, 0.95)
MUON_MOMENTUM = 0.95


def build_optimizers(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], *, weight_decay: float, muon: bool
) -> list[torch.optim.Optimizer]:
    """Optimizers that share a learning rate. Weight decay acts on matrices only, not on biases and norms.

    muon: orthogonalise the momentum of the hidden layers' matrices (Jordan et al. 2024; scaled to AdamW's step size
    as in arXiv:2502.16982, so that one learning rate serves both). A small model built from scratch learns rare
    associations in about half the steps; embeddings stay with AdamW. Weights in bfloat16 get the AdamW that rounds
    stochastically (`rounding`).
    """
    embeddings = {id(weight) for module in model.modules() for weight in _embedding_of(module)}
    hidden = [p for p in parameters.values() if muon and p.ndim == 2 and id(p) not in embeddings]
    taken = {id(parameter) for parameter in hidden}
    others = [parameter for parameter in parameters.values() if id(parameter) not in taken]
    narrow = [parameter for parameter in others if parameter.dtype == torch.bfloat16]
    wide = [parameter for parameter in others if parameter.dtype != torch.bfloat16]
    optimizers: list[torch.optim.Optimizer] = []
    if wide:
        optimizers.append(torch.optim.AdamW(_groups(wide, weight_decay), betas=BETAS, fused=True))
    if narrow:
        optimizers.append(RoundingAdamW(_groups(narrow, weight_decay), betas=BETAS))
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, weight_decay=weight_decay, momentum=MUON_MOMENTUM, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


def _groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _embedding_of(module: nn.Module) -> list[Tensor]:
    return [module.weight] if isinstance(module, nn.Embedding) else []
