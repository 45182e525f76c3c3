"""A model's linear layers while it samples: weights packed once for all the steps, LoRA without detours.

A decoding step multiplies a handful of rows by every weight there is, over and over by the same ones. Packed weights
are copies: of a large model only the first layers' are made, the others multiply as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.policy.products import add_product, linear, packed

# Packed copies at once. A constant, since what is free at the moment would change a resumed run's last bits.
PACKED_BYTES = 2**30


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Within the block the model's linear layers, LoRA's among them, multiply by packed weights. No gradients.

    The weights must not change in the block.
    """
    replaced: list[tuple[nn.Module, Any]] = []
    try:
        for module, size in _with_copies(model):
            base = _base(module)
            weight = packed(base.weight) if size else base.weight
            replaced.append((module, vars(module).get("forward")))
            module.forward = _forward(module, weight, base.bias)
        yield
    finally:
        for module, own in replaced:
            del module.forward
            if own is not None:  # the learner's, `policy.fused`
                module.forward = own


def packed_bytes(model: nn.Module) -> int:
    """What the copies take together, where oneDNN is there to make them."""
    return sum(size for _, size in _with_copies(model))


def _with_copies(model: nn.Module) -> Iterator[tuple[Any, int]]:
    """Linear layers, and the bytes of each one's copy; 0 where there is no room for one."""
    room = PACKED_BYTES
    for module in _linear_layers(model):
        weight = _base(module).weight
        size = weight.numel() * weight.element_size()
        if size > room:
            size = 0
        room -= size
        yield module, size


def _base(module: Any) -> nn.Linear:
    return module if type(module) is nn.Linear else module.base_layer


def _linear_layers(module: Any) -> Iterator[Any]:
    """Plain and plainly adapted linear layers in and below a module; what an adapted one holds is its own affair."""
    if type(module) is nn.Linear or _is_plain_lora(module):
        yield module
    else:
        for child in module.children():
            yield from _linear_layers(child)


def _forward(module: Any, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The forward function to put in place of a layer's own."""
    if type(module) is nn.Linear:
        return lambda states: linear(states, weight, bias)
    (name,) = module.active_adapters
    scaling, down, up = module.scaling[name], module.lora_A[name], module.lora_B[name]

    def adapted(states: Tensor) -> Tensor:
        out = linear(states, weight, bias)
        low = F.linear(states.to(down.weight.dtype), down.weight).flatten(0, -2)
        # As PEFT has it: in the adapter's precision, rounded once.
        add_product(out.flatten(0, -2), low, up.weight.T, scaling)
        return out

    return adapted


def _is_plain_lora(module: Any) -> bool:
    """One adapter in force on a linear layer, not merged, and none of LoRA's variants."""
    if not (hasattr(module, "lora_A") and type(getattr(module, "base_layer", None)) is nn.Linear):
        return False
    names = [name for name in module.active_adapters if name in module.lora_A]
    return (
        len(module.active_adapters) == len(names) == 1
        and not (module.disable_adapters or module.merged or module.lora_variant)
        and module.lora_A[names[0]].bias is module.lora_B[names[0]].bias is None
    )
