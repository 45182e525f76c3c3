"""Linear layers on a CPU when few rows pass: the fastest product for their number, and LoRA without detours.

A decoding step multiplies a handful of rows by every weight there is, and the library's product for the usual order of
its operands is at its worst there. The same sums in another order differ by floating-point noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Smaller weights stay in the cache, where the usual product is as good.
LARGE_BYTES = 2 * 2**20
# Outputs computed together in the batched product.
BLOCK = 32
# The most rows that gain from the batched product, the fewest and the most that gain from turning the operands around;
# measured on weights of 4864 × 896 and 896 × 4864, docs/PERFORMANCE.md.
BATCHED_ROWS = 12
TURNED_ROWS = range(9, 33)


def product(
    states: Tensor,  # [..., i]
    weight: Tensor,  # [o, i]
    bias: Tensor | None = None,  # [o]
) -> Tensor:  # [..., o]
    """`linear`, in the order of operands that is fastest for so many rows."""
    rows = states.numel() // states.shape[-1]
    # Layers with a bias are few and narrow; bfloat16 would round before adding it.
    large = (
        weight.device.type == "cpu" and bias is None and weight.numel() * weight.element_size() >= LARGE_BYTES
    )
    if large and rows <= BATCHED_ROWS and weight.dtype == torch.float32 and len(weight) % BLOCK == 0:
        blocks = weight.view(-1, BLOCK, weight.shape[1])
        flat = states.reshape(rows, -1)
        out = torch.bmm(flat.expand(len(blocks), *flat.shape), blocks.mT).transpose(0, 1)
    elif large and rows in TURNED_ROWS:
        out = (weight @ states.reshape(rows, -1).T).T
    else:
        return F.linear(states, weight, bias)
    return out.reshape(*states.shape[:-1], len(weight)).contiguous()


@contextmanager
def quick_products(model: nn.Module) -> Iterator[None]:
    """Within the block the model's linear layers, LoRA's among them, compute by `product`. No gradients."""
    replaced: list[tuple[nn.Module, Any]] = []
    for module in model.modules():
        forward = _forward(module)
        if forward is not None:
            replaced.append((module, vars(module).get("forward")))
            module.forward = forward
    try:
        yield
    finally:
        for module, own in replaced:
            del module.forward
            if own is not None:  # the learner's, `policy.fused`
                module.forward = own


def _forward(module: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward function to put in place of a layer's own; None for what is not a plain linear layer."""
    if type(module) is nn.Linear:
        return lambda states: product(states, module.weight, module.bias)
    if not _is_plain_lora(module):
        return None
    (name,) = module.active_adapters
    layer, scaling = module.base_layer, module.scaling[name]
    down, up = module.lora_A[name], module.lora_B[name]

    def adapted(states: Tensor) -> Tensor:
        out = product(states, layer.weight, layer.bias)
        # As PEFT has it: in the adapter's precision, rounded once.
        return out.add_(
            F.linear(F.linear(states.to(down.weight.dtype), down.weight), up.weight, up.bias), alpha=scaling
        )

    return adapted


def _is_plain_lora(module: Any) -> bool:
    """One adapter in force on a linear layer, not merged, and none of LoRA's variants."""
    if not (hasattr(module, "lora_A") and type(getattr(module, "base_layer", None)) is nn.Linear):
        return False
    names = [name for name in module.active_adapters if name in module.lora_A]
    return (
        len(module.active_adapters) == len(names) == 1
        and not (module.disable_adapters or module.merged or module.lora_variant)
        and module.lora_A[names[0]].bias is None
    )
