"""A model's linear layers while it samples: weights are packed once for all decoding steps, and LoRA is added in place.

A decoding step multiplies a few rows by every weight of the model, and each step uses the same weights. Packed weights
are copies. Of a large model only the first layers' weights are copied; the other layers use their weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.kernels.linear import Linear, linear_of
from grandrounds.kernels.products import add_product, linear, packed

# The most that all packed copies take. A constant: a limit by free memory would change a resumed run's last bits.
PACKED_BYTES = 2**30
Forward = Callable[[Any, Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


def packed_forwards(model: nn.Module) -> Iterator[tuple[nn.Module, Forward]]:
    """Linear layers, each with a forward function that multiplies by its packed weights. No gradients."""
    for module, layer, copied in _with_copies(model):
        weight = packed(layer.weight) if copied else layer.weight
        yield module, _forward(layer, partial(linear, weight=weight, bias=layer.bias))


def packed_bytes(model: nn.Module) -> int:
    """The size of all packed copies together, where oneDNN is available."""
    return sum(layer.weight.nbytes for _, layer, copied in _with_copies(model) if copied)


def _with_copies(model: nn.Module) -> Iterator[tuple[nn.Module, Linear, bool]]:
    """Linear layers, and whether each gets a packed copy of its weights within PACKED_BYTES."""
    room = PACKED_BYTES
    for module in _linear_layers(model):
        layer = linear_of(module)
        if layer is not None:
            copied = layer.weight.nbytes <= room
            room -= layer.weight.nbytes if copied else 0
            yield module, layer, copied


def _linear_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The linear layers in a module. A LoRA layer counts as one layer; the layers inside it do not count."""
    if linear_of(module) is not None:
        yield module
        return
    for child in module.children():
        yield from _linear_layers(child)


def _forward(layer: Linear, product: Product) -> Forward:
    """The forward function that replaces the layer's own."""
    if layer.a is None or layer.b is None:
        return lambda module, states: product(states)
    precision = layer.weight.dtype  # as in training
    low, high, scale = layer.a.to(precision), layer.b.T.to(precision), layer.scale

    def adapted(module: Any, states: Tensor) -> Tensor:
        out = product(states)
        add_product(out.flatten(0, -2), F.linear(states, low).flatten(0, -2), high, scale)
        return out

    return adapted
