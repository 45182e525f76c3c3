"""A model's linear layers while it samples: weights packed once for all the steps, LoRA without detours.

A decoding step multiplies a handful of rows by every weight there is, over and over by the same ones. Packed weights
are copies: of a large model only the first layers' are made, the others multiply as they lie. Queries, keys and values
are products of the same states, and so are gate and up: copied side by side, each such set is one product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.kernels.linear import Linear, linear_of
from grandrounds.kernels.products import add_product, can_pack, linear, packed

# Packed copies at once. A constant, since what is free at the moment would change a resumed run's last bits.
PACKED_BYTES = 2**30
# What transformers' model files call linear layers that are given the same states, in the order they are called.
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
Forward = Callable[[Any, Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


def packed_forwards(model: nn.Module) -> Iterator[tuple[nn.Module, Forward]]:
    """Linear layers and the forward functions that multiply by their packed weights. No gradients."""
    for modules, size in _with_copies(model):
        layers = [layer for module in modules if (layer := linear_of(module)) is not None]
        products = _products(layers, copied=bool(size))
        for module, layer, product in zip(modules, layers, products, strict=True):
            yield module, _forward(layer, product)


def packed_bytes(model: nn.Module) -> int:
    """The size of all copies together, where oneDNN is there to make them."""
    return sum(size for _, size in _with_copies(model))


def _with_copies(model: nn.Module) -> Iterator[tuple[Sequence[nn.Module], int]]:
    """Linear layers, those of one input together, and the bytes of their copy; 0 where there is no room for one."""
    room = PACKED_BYTES
    for modules in _linear_layers(model):
        size = sum(layer.weight.nbytes for module in modules if (layer := linear_of(module)) is not None)
        if size > room:
            size = 0
        room -= size
        yield modules, size


def _linear_layers(module: nn.Module) -> Iterator[Sequence[nn.Module]]:
    """Layers in and below a module; a LoRA layer is one, whatever it is made of."""
    if linear_of(module) is not None:
        yield (module,)
        return
    children = dict(module.named_children())
    for names in _SIBLINGS:
        siblings = [children[name] for name in names if name in children]
        if len(siblings) == len(names) and _alike(siblings):
            yield siblings
            children = {name: child for name, child in children.items() if name not in names}
    for child in children.values():
        yield from _linear_layers(child)


def _alike(modules: Sequence[nn.Module]) -> bool:
    """Whether they are linear layers whose weights can lie in one matrix."""
    layers = [linear_of(module) for module in modules]
    kinds = {layer and (layer.weight.shape[1], layer.weight.dtype, layer.bias is None) for layer in layers}
    return None not in kinds and len(kinds) == 1


def _products(layers: Sequence[Linear], *, copied: bool) -> list[Product]:
    """Each layer's x Wᵀ + b. copied: whether by packed copies, where there can be any."""
    if not (copied and can_pack(layers[0].weight)):
        return [partial(linear, weight=layer.weight, bias=layer.bias) for layer in layers]
    if len(layers) == 1:
        return [partial(linear, weight=packed(layers[0].weight), bias=layers[0].bias)]
    joint = _Joint(layers)
    return [partial(joint.product, number) for number in range(len(layers))]


class _Joint:
    """Layers that are called in turn with the same states: the first call computes all, the last lets go of them."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        self._weight = packed(torch.cat([layer.weight.detach() for layer in layers]))
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        self._sizes = [len(layer.weight) for layer in layers]
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


def _forward(layer: Linear, product: Product) -> Forward:
    """The forward function in place of a layer's own."""
    if layer.a is None or layer.b is None:
        return lambda module, states: product(states)
    precision = layer.weight.dtype  # as the learner has it
    low, high, scale = layer.a.to(precision), layer.b.T.to(precision), layer.scale

    def adapted(module: Any, states: Tensor) -> Tensor:
        out = product(states)
        add_product(out.flatten(0, -2), F.linear(states, low).flatten(0, -2), high, scale)
        return out

    return adapted
