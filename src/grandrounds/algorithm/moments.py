"""AdamW's two moments, the running means of the gradient and of its square, in float32 or in 8 bits a number.

The optimizer state holds `exp_avg` and `exp_avg_sq`, each of the parameter's shape, as float32 numbers or as codes.
Codes come with `exp_avg_scales` and `exp_avg_sq_scales`, one scale per block (`eight_bits`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grandrounds.algorithm.eight_bits import BLOCK, dequantise, quantise

# Smaller tensors stay in float32: norms and biases take almost no memory, and affect every token.
SMALLEST = 4096
# Name of a moment -> whether its numbers have a sign.
MOMENTS = {"exp_avg": True, "exp_avg_sq": False}


@dataclass(frozen=True)
class Moment:
    """A part of a moment: numbers float32 [n]; or codes uint8 [n] with scales float32 [blocks]."""

    numbers: Tensor
    scales: Tensor | None
    signed: bool

    def values(self) -> Tensor:
        """The numbers, float32 [n]. Change them in place, then call `keep`."""
        if self.scales is None:
            return self.numbers
        return dequantise(self.numbers, self.scales, signed=self.signed)

    def keep(self, values: Tensor) -> None:
        """Store the changed values."""
        if self.scales is not None:
            codes, scales = quantise(values, signed=self.signed)
            self.numbers.copy_(codes)
            self.scales.copy_(scales)


def fresh(parameter: Tensor, *, eight_bits: bool) -> dict[str, Tensor]:
    """The optimizer state of a parameter's moments before its first step: all zero."""
    state: dict[str, Tensor] = {}
    packed = eight_bits and parameter.numel() >= SMALLEST
    for name in MOMENTS:
        state[name] = torch.zeros_like(parameter, dtype=torch.uint8 if packed else torch.float32)
        if packed:
            state[f"{name}_scales"] = torch.zeros(_blocks(parameter), device=parameter.device)
    return state


def parts(state: dict[str, Any], name: str, size: int) -> Iterator[Moment]:
    """A moment in parts of `size` numbers, which must be a multiple of BLOCK."""
    numbers = state[name].view(-1).split(size)
    scales = state.get(f"{name}_scales")
    some = [None] * len(numbers) if scales is None else scales.split(size // BLOCK)
    return (Moment(*part, signed=MOMENTS[name]) for part in zip(numbers, some, strict=True))


def moment_bytes(parameter: Tensor, *, eight_bits: bool) -> int:
    """Bytes of both moments. In float32 mode, float64 parameters have float64 moments."""
    if eight_bits and parameter.numel() >= SMALLEST:
        each = parameter.numel() + 4 * _blocks(parameter)
    else:
        each = parameter.numel() * max(4, parameter.element_size())
    return len(MOMENTS) * each


def _blocks(parameter: Tensor) -> int:
    return -(-parameter.numel() // BLOCK)
