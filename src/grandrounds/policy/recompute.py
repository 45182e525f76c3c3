"""Layers that keep their input only and are computed once more in the backward pass: less memory, a third more time."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from grandrounds.policy.attention import current_layout, seen_through


def recompute_layers(model: nn.Module) -> None:
    """Let every layer of a transformers model be recomputed where it is trained through one of our layouts.

    transformers' own switch acts in training mode only, in which dropout would be on.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = MethodType(_recomputed, layer)


def _recomputed(self: Any, *arguments: Any, **named: Any) -> Any:
    layout = current_layout()
    if layout is None or not torch.is_grad_enabled():
        return type(self).forward(self, *arguments, **named)

    def compute(*arguments: Any) -> Any:
        with seen_through(layout):  # the backward pass runs outside of it
            return type(self).forward(self, *arguments, **named)

    return checkpoint(compute, *arguments, use_reentrant=False, preserve_rng_state=False)
