"""Recognises a module by what it computes: runs a small twin of it and compares the result with our own arithmetic.

A twin is a copy of the module with few, random weights. It runs the forward function of the module's own class. So a
check costs almost nothing, however large the module is and on whatever device its weights are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, INNER = 8, 12
ROWS = 5
TOLERANCE = 1e-5  # relative; GELU and its tanh approximation differ by more
_Forward = Callable[[Any, Tensor], Tensor]


def norm_twin(module: nn.Module) -> nn.Module:
    """A twin of the norm, with a new weight [WIDTH]."""
    return _with(module, parameters={"weight": nn.Parameter(torch.randn(WIDTH))}, modules={})


def feed_forward_twin(module: nn.Module, first: tuple[str, ...], last: str) -> nn.Module:
    """A twin of the block, with new plain linear layers, WIDTH to INNER and back. It keeps the block's activation."""
    bias = getattr(getattr(module, last), "bias", None) is not None
    small: dict[str, nn.Module | None] = {name: nn.Linear(WIDTH, INNER, bias) for name in first}
    small[last] = nn.Linear(INNER, WIDTH, bias)
    return _with(module, parameters={}, modules={**module._modules, **small})


def _with(
    module: nn.Module, *, parameters: dict[str, Any], modules: dict[str, nn.Module | None]
) -> nn.Module:
    twin = copy.copy(module)
    vars(twin).pop("forward", None)
    twin._parameters, twin._modules = parameters, modules
    return twin


def agree(make_twin: Callable[[], nn.Module], ours: _Forward) -> bool:
    """Whether `ours` gives the same output and gradients as the twin's own forward function, in float32."""
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("cpu"),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            torch.manual_seed(0)
            twin, states = make_twin(), torch.randn(1, ROWS, WIDTH)
            results = [_results(forward, twin, states) for forward in (type(twin).forward, ours)]
    except (AttributeError, TypeError, ValueError, LookupError, RuntimeError):
        return False  # the twin does not run: the module is of another kind
    return all(_close(*pair) for pair in zip(*results, strict=True))


def _results(forward: _Forward, twin: nn.Module, states: Tensor) -> list[Tensor]:
    """The output, and the gradients of input and weights. The loss weights each number of the output differently."""
    given = states.clone().requires_grad_()
    out = forward(twin, given)
    coefficients = torch.linspace(-1, 2, out.numel()).view_as(out)
    return [out, *torch.autograd.grad((out * coefficients).sum(), [given, *twin.parameters()])]


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
