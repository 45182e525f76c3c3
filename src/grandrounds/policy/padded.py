"""Tree attention in padded blocks, for devices and models that no better way serves.

A tree's prompts are one causal batch, its completions another; each completion attends to its prompt's keys and its
own side by side, under a mask. So keys and values of a prompt are copied for each completion, and masks are stored.

Shapes: N prompts of at most P tokens, completions of at most T tokens, at most G of one prompt; S rows in all; H
query heads, K key-value heads, D numbers per head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.policy.tree import TokenTree


class PaddedAttention:
    """Attention over one tree; its masks are made once and kept."""

    def __init__(self, tree: TokenTree) -> None:
        self.tree = tree
        self._masks: dict[tuple[str, int | None], Tensor] = {}

    def attend(
        self,
        query: Tensor,  # [1, H, S, D]
        key: Tensor,  # [1, K, S, D]
        value: Tensor,  # [1, K, S, D]
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:  # [1, S, H, D]
        """See `policy.attention.Layout`."""
        blocks = self._blocks
        query_p, query_c = self._in_blocks(query)
        key_p, key_c = self._in_blocks(key)
        value_p, value_c = self._in_blocks(value)
        if window is None and softcap is None:
            out_p = _sdpa(query_p, key_p, value_p, None, scale).transpose(1, 2)
        else:
            out_p = _attend(query_p, key_p, value_p, self._prompt_mask(window), scale, softcap)
        keys, values = self._behind_prompts(key_p, key_c), self._behind_prompts(value_p, value_c)
        out_c = _attend(query_c.flatten(0, 1), keys, values, self._completion_mask(window), scale, softcap)
        heads = out_p.shape[2:]
        out = torch.cat([out_p.reshape(-1, *heads), out_c.reshape(-1, *heads)])
        return _Rearrange.apply(out, blocks.place_of_row, blocks.row_of_place, blocks.padding)[None]

    @cached_property
    def _blocks(self) -> _Blocks:
        return _blocks(self.tree)

    def _in_blocks(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Flat states [1, ·, S, D] as prompts [N, P, ·, D] and completions [N, G, T, ·, D]."""
        blocks = self._blocks
        rows = states[0].transpose(0, 1)
        places = _Rearrange.apply(rows, blocks.row_of_place, blocks.place_of_row, None)
        cut = blocks.prompts * blocks.longest_prompt
        prompts, completions = places.split([cut, len(places) - cut])
        return (
            prompts.unflatten(0, (blocks.prompts, blocks.longest_prompt)),
            completions.unflatten(0, (blocks.prompts, blocks.largest_group, blocks.longest_completion)),
        )

    def _behind_prompts(self, prompts: Tensor, completions: Tensor) -> Tensor:
        """[N, P, K, D] and [N, G, T, K, D] side by side, [N·G, P + T, K, D]."""
        copies = prompts[:, None].expand(-1, self._blocks.largest_group, -1, -1, -1)
        return torch.cat([copies, completions], 2).flatten(0, 1)

    def _prompt_mask(self, window: int | None) -> Tensor:  # [1, P, P] bool
        if ("prompt", window) not in self._masks:
            positions = torch.arange(self._blocks.longest_prompt, device=self.tree.tokens.device)
            self._masks["prompt", window] = _visible(positions[:, None], positions[None], window)[None]
        return self._masks["prompt", window]

    def _completion_mask(self, window: int | None) -> Tensor:  # [N·G, T, P + T] bool
        if ("completion", window) not in self._masks:
            blocks = self._blocks
            device = self.tree.tokens.device
            lengths = blocks.prompt_lengths.repeat_interleave(blocks.largest_group)[:, None]  # [N·G, 1]
            in_prompt = torch.arange(blocks.longest_prompt, device=device)[None]  # [1, P]
            own = lengths + torch.arange(blocks.longest_completion, device=device)[None]  # [N·G, T]
            # A padded prompt place gets a position after every query's, so that no query sees it.
            after = blocks.longest_prompt + blocks.longest_completion
            in_prompt = torch.where(in_prompt < lengths, in_prompt, after)  # [N·G, P]
            keys = torch.cat([in_prompt, own], 1)  # [N·G, P + T]
            self._masks["completion", window] = _visible(own[:, :, None], keys[:, None], window)
        return self._masks["completion", window]


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A tree's prompts [N, P] and then its completions [N, G, T] as padded blocks, for attention under a mask.

    Right padded in tokens and, where groups differ in size, in completions; places 0 … N·P + N·G·T - 1.
    """

    prompts: int  # N
    longest_prompt: int  # P
    largest_group: int  # G
    longest_completion: int  # T
    prompt_lengths: Tensor  # [N]
    row_of_place: Tensor  # [N·P + N·G·T], row of each place; 0 at padding
    place_of_row: Tensor  # [S], the inverse
    padding: Tensor  # [·], the places that hold no token


def _blocks(tree: TokenTree) -> _Blocks:
    group_sizes = np.bincount(tree.parent)
    longest_prompt, longest = int(tree.prompt_lengths.max()), int(tree.lengths.max())
    prompt_rows, prompt_real = _block(tree.prompt_starts, tree.prompt_lengths, longest_prompt)
    rows, real = _block(tree.starts, tree.lengths, longest)
    present = np.arange(group_sizes.max()) < group_sizes[:, None]  # [N, G]
    row_of_place = np.concatenate([prompt_rows.ravel(), _spread(rows, present).ravel()])
    is_real = np.concatenate([prompt_real.ravel(), _spread(real, present).ravel()])
    place_of_row = np.empty(tree.size, np.int64)
    place_of_row[row_of_place[is_real]] = np.flatnonzero(is_real)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(tree.tokens.device)

    return _Blocks(
        prompts=len(group_sizes),
        longest_prompt=longest_prompt,
        largest_group=int(group_sizes.max()),
        longest_completion=longest,
        prompt_lengths=tensor(tree.prompt_lengths),
        row_of_place=tensor(row_of_place),
        place_of_row=tensor(place_of_row),
        padding=tensor(np.flatnonzero(~is_real)),
    )


def _spread(block: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Completions [M, T] into their places in [N, G, T]; 0 where a group has no such completion."""
    spread = np.zeros((*present.shape, block.shape[1]), block.dtype)
    spread[present] = block
    return spread


def _block(starts: np.ndarray, lengths: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [·, longest] of right-padded sequences, and which of them are real."""
    steps = np.arange(longest)[None]
    real = steps < lengths[:, None]
    return np.where(real, starts[:, None] + steps, 0), real


class _Rearrange(torch.autograd.Function):
    """Rows by index, where `inverse` undoes `index` but for padding.

    Both directions are gathers: index_select's own backward is an index_add, several times slower on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,  # [A, ...]
        index: Tensor,  # [B]
        inverse: Tensor,  # [A]
        padding: Tensor | None,  # rows of the input that nothing reads: their gradient is zero
    ) -> Tensor:  # [B, ...]
        ctx.inverse, ctx.padding = inverse, padding
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].index_select(0, ctx.inverse)
        if ctx.padding is not None:
            gradient.index_fill_(0, ctx.padding, 0)
        return gradient, None, None, None


def _visible(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Which positions see which: not the future, and not `window` or more back."""
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def _attend(
    query: Tensor,  # [B, Q, H, D]
    key: Tensor,  # [B, L, K, D]
    value: Tensor,  # [B, L, K, D]
    mask: Tensor,  # [B or 1, Q, L] bool; no row is all False
    scale: float,
    softcap: float | None,
) -> Tensor:  # [B, Q, H, D]
    if softcap is None:
        return _sdpa(query, key, value, mask[:, None], scale).transpose(1, 2)
    groups = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(groups, 2), value.repeat_interleave(groups, 2)
    scores = torch.einsum("bqhd,blhd->bhql", query, key) * scale
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask[:, None], float("-inf"))
    upcast = torch.promote_types(scores.dtype, torch.float32)
    probabilities = torch.softmax(scores, -1, dtype=upcast).to(query.dtype)
    return torch.einsum("bhql,blhd->bqhd", probabilities, value)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """torch's fused attention; arguments [B, ·, ·, D], result [B, H, Q, D]; no mask means causal."""
    return F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[2] != key.shape[2],
    )
