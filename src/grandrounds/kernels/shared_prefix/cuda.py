"""Attention in which each row sees at most two runs of rows. What no row sees is neither computed nor stored.

Uses torch's FlexAttention (arXiv:2412.05496) on a CUDA device. A compiled kernel goes over blocks of 128 × 128 pairs of
query and key. It skips blocks that hold no visible pair, and evaluates the mask only in blocks that are visible in
part. The backward pass goes over the same blocks.

Shapes: S rows, H query heads, K key-value heads, D numbers per head; B blocks of rows, with padding.
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

BLOCK = 128  # rows; FlexAttention's default
# The kernel is first compiled for this many blocks. No model has this many heads, or this width: the compiler assumes
# that sizes which are equal at first are always equal, and would compile again for the next size.
FIRST_BLOCKS = 13
# Scale and softcap are constants of a kernel, since FlexAttention takes no symbols for them. So each model has its own
# kernels, and one process may compile many.
COMPILER = {"specialize_float": True, "recompile_limit": 64}


@dataclass(frozen=True, eq=False)
class VisibleRows:
    """What each of S rows sees: the rows from `own` to itself, and the rows from `first` up to, but without, `last`.

    The second run may be empty, and never overlaps the first. The attention mask compares a key's row with three
    numbers of the query. A sliding window only changes these numbers.
    """

    own: Tensor  # [S] int32
    first: Tensor  # [S] int32
    last: Tensor  # [S] int32


def block_mask(seen: VisibleRows) -> BlockMask:
    """The blocks that hold a visible pair, for `attend`. Make it once and use it in every layer.

    Rows are padded to whole blocks, at least two, since a size of 1 would be compiled separately. A padding row sees
    only itself. Pairs are counted row by row, in a tensor of S × B; no tensor of S × S is made.
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
    """The number of visible pairs in each block, [B, B], if each row, [B·128], sees the rows first … last - 1."""
    begin = torch.arange(0, len(first), BLOCK, dtype=torch.int32, device=first.device)
    seen = torch.minimum(last[:, None], begin + BLOCK) - torch.maximum(first[:, None], begin)
    return seen.clamp_(min=0).unflatten(0, (-1, BLOCK)).sum(1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks [B, B] in FlexAttention's form: their number in each row, [1, 1, B], and their columns, listed first in
    [1, 1, B, B]."""
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
    """Softmax attention of each row over the rows it sees. A softcap makes scores softcap · tanh(score / softcap)."""
    rows = query.shape[2]
    padding = (0, 0, 0, 0, 0, mask.seq_lengths[0] - rows)
    # Rows before heads in memory, as the model gives states and expects them: the output takes the query's layout.
    padded = (
        F.pad(states.transpose(1, 2), padding).contiguous().transpose(1, 2) for states in (query, key, value)
    )
    with torch._dynamo.config.patch(COMPILER):
        out = _compiled()(*padded, mask, scale, softcap)
    return out.transpose(1, 2)[:, :rows]


def _over_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: float, softcap: float | None
) -> Tensor:
    whole_blocks: Any = {"IS_DIVISIBLE": True}  # no bounds checks at the borders
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
    # Without autotuning: a choice by timing could make a resumed run sum in another order.
    return torch.compile(_over_blocks, dynamic=True, fullgraph=True)


def serves(query: Tensor, key: Tensor, scale: float, softcap: float | None) -> bool:
    """Whether `attend` works for such states, [1, H, S, D] and [1, K, S, D]. The first call compiles it."""
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
    """Whether attention compiles and runs, forward and backward. If not, warns why; the caller then attends otherwise.

    It is tried on a few blocks before a run depends on it: a backward pass that fails to compile would otherwise stop
    the first step half-way.
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
    except torch.OutOfMemoryError:  # not the kernel's fault; and a resumed run must use the same kernel
        raise
    except Exception as error:  # a compiler, its tools and its drivers raise many kinds of errors
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        warnings.warn(
            f"FlexAttention does not compile here; attention takes one sequence at a time (slow: {reason[:200]})",
            stacklevel=2,
        )
        return False
    return True
