"""A model's linear layers while it samples: weights packed once for all the steps, LoRA without detours.

A decoding step multiplies a handful of rows by every weight there is, over and over by the same ones. Packed weights
are copies: of a large model only the first layers' are made, the others multiply as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.kernels.linear import Linear, linear_of
from grandrounds.kernels.products import add_product, linear, packed

# Packed copies at once. A constant, since what is free at the moment would change a resumed run's last bits.
PACKED_BYTES = 2**30
Forward = Callable[[Any, Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


def packed_forwards(model: nn.Module) -> Iterator[tuple[nn.Module, Forward]]:
    """Linear layers and the forward functions that multiply by their packed weights. No gradients."""
    for module, layer, copied in _with_copies(model):
        weight = packed(layer.weight) if copied else layer.weight
        yield module, _forward(layer, partial(linear, weight=weight, bias=layer.bias))


def packed_bytes(model: nn.Module) -> int:
    """The size of all copies together, where oneDNN is there to make them."""
    return sum(layer.weight.nbytes for _, layer, copied in _with_copies(model) if copied)


def _with_copies(model: nn.Module) -> Iterator[tuple[nn.Module, Linear, bool]]:
    """Linear layers, and whether there is room for a copy of their weights."""
    room = PACKED_BYTES
    for module in _linear_layers(model):
        layer = linear_of(module)
        if layer is not None:
            copied = layer.weight.nbytes <= room
            room -= layer.weight.nbytes if copied else 0
            yield module, layer, copied


def _linear_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Layers in and below a module; a LoRA layer is one, whatever it is made of."""
    if linear_of(module) is not None:
        yield module
        return
    for child in module.children():
        yield from _linear_layers(child)


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
