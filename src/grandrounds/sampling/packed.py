"""A model's linear layers while it samples: weights packed once for all the steps, LoRA without detours.

A decoding step multiplies a handful of rows by every weight there is, over and over by the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.policy.products import linear, packed


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Within the block the model's linear layers, LoRA's among them, multiply by packed weights. No gradients.

    The weights must not change in the block. Packed ones are as large as they are, and gone behind it.
    """
    replaced: list[tuple[nn.Module, Any]] = []
    try:
        for module, forward in _forwards(model):
            replaced.append((module, vars(module).get("forward")))
            module.forward = forward
        yield
    finally:
        for module, own in replaced:
            del module.forward
            if own is not None:  # the learner's, `policy.fused`
                module.forward = own


def _forwards(module: Any) -> Iterator[tuple[Any, Callable[[Tensor], Tensor]]]:
    """Linear layers in and below a module, each with the forward function to put in place of its own."""
    if type(module) is nn.Linear:
        yield module, _plain(module)
    elif _is_plain_lora(module):
        yield module, _adapted(module)
    else:
        for child in module.children():
            yield from _forwards(child)


def _plain(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = packed(layer.weight)
    return lambda states: linear(states, weight, layer.bias)


def _adapted(module: Any) -> Callable[[Tensor], Tensor]:
    (name,) = module.active_adapters
    scaling, down, up = module.scaling[name], module.lora_A[name], module.lora_B[name]
    base, bias = packed(module.base_layer.weight), module.base_layer.bias

    def adapted(states: Tensor) -> Tensor:
        out = linear(states, base, bias)
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
