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
# Types whose plain weights oneDNN multiplies faster than torch's own linear layer does, and those that it packs.
_PLAIN_TYPES = (torch.float32,)
_PACKED_TYPES = (torch.float32, torch.bfloat16)


def linear(
    states: Tensor,  # [..., in]
    weight: Tensor,  # [out, in], or what `packed` makes of it
    bias: Tensor | None = None,  # [out]
) -> Tensor:  # [..., out]
    """x Wᵀ + b."""
    if weight.is_mkldnn or (weight.dtype in _PLAIN_TYPES and _onednn_multiplies(weight)):
        return _onednn._linear_pointwise(states, weight, bias, "none", [], "")
    return F.linear(states, weight, bias)


def packed(weight: Tensor) -> Tensor:
    """The weight [out, in] copied into oneDNN's own order, for many products by `linear`; without oneDNN itself."""
    if _onednn_multiplies(weight):
        return _onednn._reorder_linear_weight(weight.detach(), None)
    return weight


def _onednn_multiplies(weight: Tensor) -> bool:
    """Whether it can: torch may be built without it, and a processor may lack instructions for bfloat16."""
    if weight.device.type != "cpu" or weight.dtype not in _PACKED_TYPES:
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
