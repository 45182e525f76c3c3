"""Sums of matrix products, in a precision that keeps their small terms."""

from __future__ import annotations

import torch
from torch import Tensor


def add_product(total: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    """total += scale · left right, in total's precision and memory."""
    if left.dtype == total.dtype:
        total.addmm_(left, right, alpha=scale)
    else:
        total.add_(left @ right, alpha=scale)


def summing_type(tensor: Tensor) -> torch.dtype:
    """The tensor's type, float32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)
