"""A model's linear layers while it samples: weights packed once for all the steps, LoRA without detours.

A decoding step multiplies a handful of rows by every weight there is, over and over by the same ones. Packed weights
are copies: of a large model only the first layers' are made, the others multiply as they lie. Queries, keys and values
are maps of the same states, and so are gate and up: copied side by side, each such set is one product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.policy.products import add_product, can_pack, linear, packed

# Packed copies at once. A constant, since what is free at the moment would change a resumed run's last bits.
PACKED_BYTES = 2**30
# What transformers' model files call linear layers that are given the same states, in the order they are called.
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Within the block the model's linear layers, LoRA's among them, multiply by packed weights. No gradients.

    The weights must not change in the block.
    """
    replaced: list[tuple[nn.Module, Any]] = []
    try:
        for modules, size in _with_copies(model):
            for module, product in zip(modules, _products(modules, copied=bool(size)), strict=True):
                replaced.append((module, vars(module).get("forward")))
                module.forward = _forward(module, product)
        yield
    finally:
        for module, own in replaced:
            del module.forward
            if own is not None:  # the learner's, `policy.fused`
                module.forward = own


def packed_bytes(model: nn.Module) -> int:
    """What the copies take together, where oneDNN is there to make them."""
    return sum(size for _, size in _with_copies(model))


def _with_copies(model: nn.Module) -> Iterator[tuple[Sequence[Any], int]]:
    """Linear layers, those of one input together, and the bytes of their copy; 0 where there is no room for one."""
    room = PACKED_BYTES
    for modules in _linear_layers(model):
        size = sum(_base(module).weight.nbytes for module in modules)
        if size > room:
            size = 0
        room -= size
        yield modules, size


def _base(module: Any) -> nn.Linear:
    return module if type(module) is nn.Linear else module.base_layer


def _linear_layers(module: Any) -> Iterator[Sequence[Any]]:
    """Plain and plainly adapted linear layers in and below a module; what an adapted one holds is its own affair."""
    if _is_linear(module):
        yield (module,)
        return
    children = dict(module.named_children())
    for names in _SIBLINGS:
        siblings = [children.get(name) for name in names]
        if all(_is_linear(sibling) for sibling in siblings) and _alike(siblings):
            yield siblings
            children = {name: child for name, child in children.items() if name not in names}
    for child in children.values():
        yield from _linear_layers(child)


def _is_linear(module: Any) -> bool:
    return type(module) is nn.Linear or _is_plain_lora(module)


def _alike(modules: Sequence[Any]) -> bool:
    """Whether their weights can lie in one matrix."""
    layers = [_base(module) for module in modules]
    return len({(layer.in_features, layer.weight.dtype, layer.bias is None) for layer in layers}) == 1


def _products(modules: Sequence[Any], *, copied: bool) -> list[Callable[[Tensor], Tensor]]:
    """Each layer's x Wᵀ + b. copied: whether by packed copies, where there can be any."""
    layers = [_base(module) for module in modules]
    if not (copied and can_pack(layers[0].weight)):
        return [partial(linear, weight=layer.weight, bias=layer.bias) for layer in layers]
    if len(layers) == 1:
        return [partial(linear, weight=packed(layers[0].weight), bias=layers[0].bias)]
    joint = _Joint(layers)
    return [partial(joint.product, number) for number in range(len(layers))]


class _Joint:
    """Layers that are called in turn with the same states: the first call computes all, the last lets go of them."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._weight = packed(torch.cat([layer.weight.detach() for layer in layers]))
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        self._sizes = [layer.out_features for layer in layers]
        self._of: Tensor | None = None
        self._parts: dict[int, Tensor] = {}

    def product(self, number: int, states: Tensor) -> Tensor:
        """The product of one of the layers, by number. Its rows lie apart."""
        if states is not self._of or number not in self._parts:
            parts = linear(states, self._weight, self._bias).split(self._sizes, -1)
            self._of, self._parts = states, dict(enumerate(parts))
        part = self._parts.pop(number)
        if number == len(self._sizes) - 1:
            self._of, self._parts = None, {}
        return part


def _forward(module: Any, product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The forward function to put in place of a layer's own."""
    if type(module) is nn.Linear:
        return product
    (name,) = module.active_adapters
    scaling, down, up = module.scaling[name], module.lora_A[name], module.lora_B[name]

    precision = module.base_layer.weight.dtype  # as the learner has it
    low, high = down.weight.to(precision), up.weight.T.to(precision)

    def adapted(states: Tensor) -> Tensor:
        out = product(states)
        add_product(out.flatten(0, -2), F.linear(states, low).flatten(0, -2), high, scaling)
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
