"""Recognising a module by what it computes: a small twin of it is run beside our own arithmetic.

A twin is the module with few and random weights. It runs the forward function of the module's own class, so a check
costs next to nothing however large the module is, and wherever its weights lie.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, INNER = 8, 12
ROWS = 5
TOLERANCE = 1e-5  # relative; GELU and its tanh form differ by more
_Forward = Callable[[Any, Tensor], Tensor]


def norm_twin(module: nn.Module) -> nn.Module:
    """The norm with a weight of its own, [WIDTH]."""
    return _with(module, parameters={"weight": nn.Parameter(torch.randn(WIDTH))}, modules={})


def feed_forward_twin(module: nn.Module, first: tuple[str, ...], last: str) -> nn.Module:
    """The block with plain linear layers, WIDTH to INNER and back, in place of its own; its activation stays."""
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
    """Whether ours gives the output and all gradients of the twin's own forward function, in float32."""
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
        return False  # the twin cannot be computed: it is a module of another kind
    return all(_close(*pair) for pair in zip(*results, strict=True))


def _results(forward: _Forward, twin: nn.Module, states: Tensor) -> list[Tensor]:
    """The output, and the gradients of input and weights for one that weights all numbers of it differently."""
    given = states.clone().requires_grad_()
    out = forward(twin, given)
    coefficients = torch.linspace(-1, 2, out.numel()).view_as(out)
    return [out, *torch.autograd.grad((out * coefficients).sum(), [given, *twin.parameters()])]


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
