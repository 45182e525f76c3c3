"""Matrix products: by the fastest library there is, and sums of them in a precision that keeps small terms.

On a CPU torch multiplies float32 matrices by MKL, few rows by wide weights slowly, and on some makes of processor
everything. oneDNN, which torch brings along for its own compiled models, is measured beside it in docs/PERFORMANCE.md.
Nothing here has a gradient of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_onednn = torch.ops.mkldnn
# From so many rows on oneDNN multiplies by the same pieces of code whatever their number.
_MANY_ROWS = 512
_TYPES = (torch.float32, torch.bfloat16)


def linear(
    states: Tensor,  # [..., in]
    weight: Tensor,  # [out, in], or what `packed` makes of it
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
    """So many up to 16, then the next multiple of 4 up to 64, the next of 64 up to `_MANY_ROWS`, and so many again.

    For each lower number oneDNN makes code of its own for each shape of weights, half a megabyte, and keeps it.
    """
    step = 1 if rows <= 16 or rows > _MANY_ROWS else 4 if rows <= 64 else 64
    return -(-rows // step) * step


def _multiply(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _onednn._linear_pointwise(states, weight, bias, "none", [], "")


def packed(weight: Tensor) -> Tensor:
    """The weight [out, in] copied into oneDNN's own order, for many products by `linear`; without oneDNN itself."""
    if can_pack(weight):
        return _onednn._reorder_linear_weight(weight.detach(), None)
    return weight


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN serves it: torch may lack it, and a processor instructions for bfloat16."""
    if weight.device.type != "cpu" or weight.dtype not in _TYPES:
        return False
    available = torch.backends.mkldnn.is_available()
    return available and (weight.element_size() == 4 or _onednn._is_mkldnn_bf16_supported())


def add_product(total: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    """total += scale · left right, in total's precision and memory."""
    if left.dtype == total.dtype:
        total.addmm_(left, right, alpha=scale)
    else:
        total.add_(left @ right, alpha=scale)


def summing_type(tensor: Tensor) -> torch.dtype:
    """The tensor's type, float32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)
