"""Matrix products by the fastest library available, and sums of products in a precision that keeps small terms.

On a CPU, torch multiplies float32 matrices by MKL. MKL is slow for few rows by wide weights, and on some processors for
every shape. oneDNN, which torch includes for its compiled models, is compared with it in docs/PERFORMANCE.md.
No function here has a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_onednn = torch.ops.mkldnn
# From this many rows on, oneDNN uses the same generated code for every number of rows.
_MANY_ROWS = 512
_TYPES = (torch.float32, torch.bfloat16)


def linear(
    states: Tensor,  # [..., in]
    weight: Tensor,  # [out, in], or the result of `packed`
    bias: Tensor | None = None,  # [out]
) -> Tensor:  # [..., out]
    """x Wᵀ + b."""
    if not can_pack(weight):
        return F.linear(states, weight, bias)
    rows = states.shape[:-1].numel()
    further = padded_rows(rows) - rows
    if not further:
        return _multiply(states, weight, bias)
    out = _multiply(F.pad(states.flatten(0, -2), (0, 0, 0, further)), weight, bias)
    return out[:rows].unflatten(0, states.shape[:-1])


def padded_rows(rows: int) -> int:
    """The number of rows that `linear` multiplies: the same up to 16; then the next multiple of 4 up to 64, and the
    next multiple of 64 up to `_MANY_ROWS`; the same above.

    Below `_MANY_ROWS`, oneDNN generates and keeps half a megabyte of code for each number of rows and each shape of
    weights.
    """
    step = 1 if rows <= 16 or rows > _MANY_ROWS else 4 if rows <= 64 else 64
    return -(-rows // step) * step


def _multiply(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _onednn._linear_pointwise(states, weight, bias, "none", [], "")


def packed(weight: Tensor) -> Tensor:
    """The weight [out, in] copied into oneDNN's layout, for many products by `linear`; unchanged without oneDNN."""
    if can_pack(weight):
        return _onednn._reorder_linear_weight(weight.detach(), None)
    return weight


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN can multiply by it. torch may lack oneDNN, and a processor may lack bfloat16 instructions."""
    if weight.device.type != "cpu" or weight.dtype not in _TYPES:
        return False
    available = torch.backends.mkldnn.is_available()
    return available and (weight.element_size() == 4 or _onednn._is_mkldnn_bf16_supported())


def add_product(total: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    """total += scale · left right, in place and in total's precision."""
    if left.dtype == total.dtype:
        total.addmm_(left, right, alpha=scale)
    else:
        total.add_(left @ right, alpha=scale)


def summing_type(tensor: Tensor) -> torch.dtype:
    """The tensor's type, but at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)
