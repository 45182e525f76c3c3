"""Attention in which each row sees at most two runs of rows; what no row sees is neither computed nor stored.

By torch's FlexAttention (arXiv:2412.05496) on a CUDA device: a compiled kernel goes over blocks of 128 × 128 pairs,
leaves out those that hold no visible pair, and looks into the mask only where a block is visible in part. The
backward pass goes over the same blocks.

Shapes: S rows, H query heads, K key-value heads, D numbers per head; B blocks of rows, behind padding.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128  # rows; FlexAttention's own default
# The kernel is first compiled for this many blocks: a number that is none of a model's heads or widths, for the
# compiler takes sizes that are equal at first to be equal always, and would compile anew for the next.
FIRST_BLOCKS = 13
# Scale and softcap as constants of a kernel: FlexAttention takes no symbols for them. So each model has kernels of
# its own, and a process may see many.
COMPILER = {"specialize_float": True, "recompile_limit": 64}


@dataclass(frozen=True, eq=False)
class VisibleRows:
    """What each of S rows sees: the rows from `own` to itself, and those from `first` on that come before `last`.

    The second run may be empty and never overlaps the first. The attention mask is a comparison with three numbers of
    the query, and a window only moves these.
    """

    own: Tensor  # [S] int32
    first: Tensor  # [S] int32
    last: Tensor  # [S] int32


def block_mask(seen: VisibleRows) -> BlockMask:
    """The blocks that hold a visible pair, for `attend`; to be made once and used in every layer.

    Rows are padded to whole blocks, of which there are two at least, since a size of 1 would be compiled anew. A row
    of padding sees itself alone. Pairs are counted row by row, in S × B numbers; S × S are never made.
    """
    rows = len(seen.own)
    size = BLOCK * max(2, -(-rows // BLOCK))
    itself = torch.arange(size, dtype=torch.int32, device=seen.own.device)
    own = torch.cat([seen.own, itself[rows:]])
    first, last = (F.pad(bound, (0, size - rows)) for bound in (seen.first, seen.last))

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((own[query] <= key) & (key <= query)) | ((first[query] <= key) & (key < last[query]))

    pairs = _in_blocks(own, itself + 1) + _in_blocks(first, last)
    full = pairs == BLOCK**2
    return BlockMask.from_kv_blocks(
        *_listed((pairs > 0) & ~full),
        *_listed(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible,
        seq_lengths=(size, size),
    )


def _in_blocks(first: Tensor, last: Tensor) -> Tensor:
    """How many pairs of each block are visible, [B, B], if each row, [B·128], sees the rows first … last - 1."""
    begin = torch.arange(0, len(first), BLOCK, dtype=torch.int32, device=first.device)
    seen = torch.minimum(last[:, None], begin + BLOCK) - torch.maximum(first[:, None], begin)
    return seen.clamp_(min=0).unflatten(0, (-1, BLOCK)).sum(1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks [B, B] as FlexAttention wants them: how many in each row, [1, 1, B], and which, first in [1, 1, B, B]."""
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]


def attend(
    query: Tensor,  # [1, H, S, D]
    key: Tensor,  # [1, K, S, D]
    value: Tensor,  # [1, K, S, D]
    mask: BlockMask,
    scale: float,
    softcap: float | None,
) -> Tensor:  # [1, S, H, D]
    """Softmax attention of each row over the rows it sees; a softcap makes scores softcap · tanh(score / softcap)."""
    rows = query.shape[2]
    padding = (0, 0, 0, 0, 0, mask.seq_lengths[0] - rows)
    # Rows before heads, as they come and as they are wanted: the kernel gives its output the query's layout.
    padded = (
        F.pad(states.transpose(1, 2), padding).contiguous().transpose(1, 2) for states in (query, key, value)
    )
    with torch._dynamo.config.patch(COMPILER):
        out = _compiled()(*padded, mask, scale, softcap)
    return out.transpose(1, 2)[:, :rows]


def _over_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: float, softcap: float | None
) -> Tensor:
    whole_blocks: Any = {"IS_DIVISIBLE": True}  # nothing to check at the borders
    return flex_attention(
        query,
        key,
        value,
        score_mod=None if softcap is None else _capped(softcap),
        block_mask=mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=whole_blocks,
    )


def _capped(softcap: float) -> Any:
    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return capped


@cache
def _compiled() -> Any:
    # Without autotuning: a choice by timing would let a resumed run sum in another order.
    return torch.compile(_over_blocks, dynamic=True, fullgraph=True)


def serves(query: Tensor, key: Tensor, scale: float, softcap: float | None) -> bool:
    """Whether `attend` can be used for such states, [1, H, S, D] and [1, K, S, D]; compiles it when first asked."""
    if query.device.type != "cuda":  # on a CPU it has no backward pass
        return False
    return _compiles(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3], scale, softcap)


@cache
def _compiles(
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    key_heads: int,
    width: int,
    scale: float,
    softcap: float | None,
) -> bool:
    """Attend once, forward and backward. If that fails, say why and be False: attention then goes another way.

    Tried on a few blocks before anything depends on it, since a backward pass that fails to compile would otherwise
    end the first step half-way.
    """
    own, first, last = torch.zeros(3, FIRST_BLOCKS * BLOCK, dtype=torch.int32, device=device)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            query, key, value = (
                torch.zeros(1, count, len(own), width, dtype=dtype, device=device, requires_grad=True)
                for count in (heads, key_heads, key_heads)
            )
            attend(
                query, key, value, block_mask(VisibleRows(own, first, last)), scale, softcap
            ).sum().backward()
    except torch.OutOfMemoryError:  # says nothing about kernels, and a resumed run must take the same way
        raise
    except Exception as error:  # a compiler, its tools and its drivers fail in many ways
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        warnings.warn(
            f"FlexAttention does not compile here; attention takes one sequence after another ({reason[:200]})",
            stacklevel=2,
        )
        return False
    return True
