"""Layers that keep only their input and are recomputed in the backward pass: less memory, a third more time.

The inputs stay on the device. With `offload` they are kept in the computer's memory until the backward pass needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from grandrounds.kernels.attention import current_layout, seen_through

Aside = Callable[[], AbstractContextManager[Any]]
# Value of `policy.recompute` -> a context in which autograd saves a layer's input. Copies from the GPU and back are
# asynchronous. With pinned memory they run on the GPU's own stream: after the kernel that writes the input, and before
# anything that reuses its memory.
ASIDE: dict[str, Aside] = {"layers": nullcontext, "offload": partial(save_on_cpu, pin_memory=True)}


def recompute_layers(model: nn.Module, aside: Aside = nullcontext) -> None:
    """Let every layer of a transformers model be recomputed in the backward pass.

    aside: makes a context in which a layer's input, [1, S, d], is saved. Nothing else is saved in it.
    transformers' own switch works only in training mode, which would turn dropout on.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = MethodType(partial(_recomputed, aside), layer)


def _recomputed(aside: Aside, self: Any, states: Tensor, *further: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return type(self).forward(self, states, *further, **named)
    layout = current_layout()

    # The checkpoint saves only the layer's input: all layers share the other arguments.
    def compute(states: Tensor) -> Any:
        with seen_through(layout):  # the backward pass runs outside the caller's block
            return type(self).forward(self, states, *further, **named)

    with aside():
        return checkpoint(compute, states, use_reentrant=False, preserve_rng_state=False)
