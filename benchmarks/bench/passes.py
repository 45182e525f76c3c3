"""Counts the tokens that go through a network, forward and backward, whoever calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Operations of a backward pass for one of a forward pass: gradients of inputs, and of weights.
BACKWARD = 2


@dataclass
class Passes:
    """Tokens through the network: `forward` in all, `backward` those with a gradient."""

    forward: int = 0
    backward: int = 0

    @property
    def operations(self) -> int:
        """In forward passes of one token."""
        return self.forward + BACKWARD * self.backward


@contextmanager
def counted(body: nn.Module) -> Iterator[Passes]:
    """Within the block, the tokens that a transformers decoder gets, those of padded rows among them."""
    passes = Passes()

    def count(module: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        tokens = named["input_ids"].numel()
        passes.forward += tokens
        passes.backward += tokens * torch.is_grad_enabled()

    handle = body.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()
