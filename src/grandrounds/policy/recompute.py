"""Layers that keep their input only and are computed once more in the backward pass: less memory, a third more time.

The inputs stay where they are, or wait in the computer's own memory beside a GPU until the backward pass asks for them.
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
# What `policy.recompute` calls them -> a context in which autograd saves the input of a layer. Copies out of a GPU and
# back are not waited for: from pinned memory they take their turn on the GPU's own stream, behind what writes the input
# and before anything that reuses its place.
ASIDE: dict[str, Aside] = {"layers": nullcontext, "offload": partial(save_on_cpu, pin_memory=True)}


def recompute_layers(model: nn.Module, aside: Aside = nullcontext) -> None:
    """Let every layer of a transformers model be recomputed in the backward pass.

    aside: makes a context in which a layer's input, [1, S, d], is saved; nothing else is saved within.
    transformers' own switch acts in training mode only, in which dropout would be on.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = MethodType(partial(_recomputed, aside), layer)


def _recomputed(aside: Aside, self: Any, states: Tensor, *further: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return type(self).forward(self, states, *further, **named)
    layout = current_layout()

    # Only the input is the checkpoint's own: what else a layer is given, all layers share.
    def compute(states: Tensor) -> Any:
        with seen_through(layout):  # the backward pass runs outside of it
            return type(self).forward(self, states, *further, **named)

    with aside():
        return checkpoint(compute, states, use_reentrant=False, preserve_rng_state=False)
