"""The kernels that make training and sampling fast. Each has a switch in `policy.kernels`. With all of them off, a run
is plain transformers.

    shared_prefix    attention in which a prompt is computed once for all its completions
    head             log-probabilities of completion tokens, a chunk of rows at a time
    fused            norms, feed-forward blocks and linear layers as single autograd functions
    packed_weights   linear layers whose weights are copied into oneDNN's layout while the model samples
    cuda_graphs      decoding steps that are captured in a CUDA graph and replayed

`fused` and `packed_weights` replace the forward functions of a model's modules. Only this file decides which module
gets which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from grandrounds.kernels.fused import training_forward
from grandrounds.kernels.linear import is_linear
from grandrounds.kernels.packed_weights import packed_forwards

# The attribute that holds a module's packed forward function while the model samples.
_PACKED = "_grandrounds_packed"


def install(model: nn.Module, *, fused: bool, packed_weights: bool, keep_inner: bool = True) -> None:
    """Choose the forward function of every module. A later call replaces the choice.

    With gradients a module computes by `fused`. Without gradients, and within `packed`, it computes by its packed
    weights. In every other case, and for every module that no kernel knows, its own class computes.
    keep_inner: whether norm outputs and the inner activations of feed-forward blocks are kept for the backward pass.
    """
    for module in model.modules():
        if getattr(getattr(vars(module).get("forward"), "__func__", None), "func", None) is _forward:
            del module.forward
        training = training_forward(module, keep_inner=keep_inner) if fused else None
        if training or (packed_weights and is_linear(module)):
            # A bound method, so that a deep copy of the module binds its own.
            module.forward = MethodType(partial(_forward, training), module)
            setattr(module, _PACKED, None)


def _forward(training: Callable[..., Tensor] | None, module: Any, *inputs: Any, **named: Any) -> Any:
    ours = training if torch.is_grad_enabled() else vars(module).get(_PACKED)
    if ours is None or len(inputs) != 1 or named:
        return type(module).forward(module, *inputs, **named)
    return ours(module, *inputs)


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Within the block, linear layers for which `packed_weights` is installed multiply by packed copies.

    The weights must not change within the block.
    """
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module, forward in packed_forwards(model):
            before.append((module, vars(module).get(_PACKED)))
            setattr(module, _PACKED, forward)
        yield
    finally:
        for module, forward in before:
            setattr(module, _PACKED, forward)
