"""The arithmetic of a linear layer: plain, or with one LoRA adapter of PEFT."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn


class Linear(NamedTuple):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ. A and B are None without an adapter."""

    weight: Tensor  # W [out, in]
    bias: Tensor | None  # b [out]
    a: Tensor | None  # A [r, in]
    b: Tensor | None  # B [out, r]
    scale: float  # s


def is_linear(module: nn.Module) -> bool:
    """Whether the module is torch's linear layer, or PEFT's LoRA layer around one. Subclasses do not count."""
    if _is_lora(module):
        return type(module.base_layer) is nn.Linear
    return type(module) is nn.Linear


def linear_of(module: Any) -> Linear | None:
    """What the layer computes in its present state. None for merged, several or unusual adapters and other layers."""
    if not is_linear(module):
        return None
    if not _is_lora(module):
        return Linear(module.weight, module.bias, None, None, 0.0)
    if module.merged:
        return None
    base = module.base_layer
    names = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not names:
        return Linear(base.weight, base.bias, None, None, 0.0)
    name = names[0]
    if len(names) > 1 or name in module.lora_variant or type(module.lora_dropout[name]) is not nn.Identity:
        return None
    a, b = module.lora_A[name], module.lora_B[name]
    if a.bias is not None or b.bias is not None:
        return None
    return Linear(base.weight, base.bias, a.weight, b.weight, module.scaling[name])


def _is_lora(module: Any) -> bool:
    kind = type(module)  # compared by name, so that models without an adapter do not import PEFT
    return kind.__module__ == "peft.tuners.lora.layer" and kind.__name__ == "Linear"
