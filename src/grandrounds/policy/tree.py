"""Training attention: each prompt is computed once and shared by its completions.

One flat row holds N prompts, each followed by its completions:

    row        p p p a a a a b b  q q c c c d
    position   0 1 2 3 4 5 6 3 4  0 1 2 3 4 2

A prompt token sees its prompt up to itself. A completion token sees its whole prompt and its own completion
up to itself, never a sibling. So every token's state, and every gradient, is what it would be if each
completion stood alone behind its own copy of the prompt; only the copies are not computed. Everything but
attention works on the flat row and wastes nothing on padding.

Shapes: S tokens in the row, N prompts of at most P tokens, M completions of at most T tokens, at most G of
one prompt, C completion tokens in all; H query heads, K key-value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.policy.shared_prefix import shared_prefix_attention


@dataclass(frozen=True, eq=False)
class TokenTree:
    """Prompts and their completions in one flat row, with the index tensors that lay them out in blocks.

    The blocks are the prompts [N, P] and then the completions [N, G, T], right padded in tokens and, where
    groups differ in size, in completions; places 0 … N·P + N·G·T - 1.
    """

    tokens: Tensor  # [1, S]
    positions: Tensor  # [1, S], restarting after the prompt
    prompts: int  # N
    longest_prompt: int  # P
    largest_group: int  # G
    longest_completion: int  # T
    prompt_lengths: Tensor  # [N]
    parent: Tensor  # [M], the prompt of each completion
    row_of_place: Tensor  # [N·P + N·G·T], row of each place; 0 at padding
    place_of_row: Tensor  # [S], the inverse
    padding: Tensor  # [·], the places that hold no token
    source: Tensor  # [C], the row whose state predicts each completion token

    @property
    def size(self) -> int:
        """Tokens in the row (S)."""
        return self.tokens.shape[1]


def token_tree(
    branches: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], device: torch.device | str = "cpu"
) -> TokenTree:
    """Lay prompts (int [P], P > 0) and their completions (int [T], T > 0) out in one row, in this order."""
    prompts = [np.asarray(prompt) for prompt, _ in branches]
    completions = [np.asarray(completion) for _, group in branches for completion in group]
    group_sizes = np.array([len(group) for _, group in branches])
    parent = np.repeat(np.arange(len(branches)), group_sizes)
    prompt_lengths = np.array([len(prompt) for prompt in prompts])
    lengths = np.array([len(completion) for completion in completions])
    prompt_starts, starts = _starts(prompt_lengths, lengths, parent)

    size = int(prompt_lengths.sum() + lengths.sum())
    tokens = np.empty(size, np.int64)
    positions = np.empty(size, np.int64)
    for start, sequence in zip((*prompt_starts, *starts), (*prompts, *completions), strict=True):
        tokens[start : start + len(sequence)] = sequence
    offsets = np.concatenate([np.zeros(len(prompts), np.int64), prompt_lengths[parent]])
    for start, length, offset in zip(
        (*prompt_starts, *starts), (*prompt_lengths, *lengths), offsets, strict=True
    ):
        positions[start : start + length] = np.arange(offset, offset + length)

    longest_prompt, longest = int(prompt_lengths.max()), int(lengths.max())
    prompt_rows, prompt_real = _block(prompt_starts, prompt_lengths, longest_prompt)
    rows, real = _block(starts, lengths, longest)
    present = np.arange(group_sizes.max()) < group_sizes[:, None]  # [N, G]
    row_of_place = np.concatenate([prompt_rows.ravel(), _spread(rows, present).ravel()])
    is_real = np.concatenate([prompt_real.ravel(), _spread(real, present).ravel()])
    place_of_row = np.empty(size, np.int64)
    place_of_row[row_of_place[is_real]] = np.flatnonzero(is_real)
    before = rows - 1
    before[:, 0] = (prompt_starts + prompt_lengths - 1)[parent]  # the prompt's last token predicts the first

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return TokenTree(
        tokens=tensor(tokens)[None],
        positions=tensor(positions)[None],
        prompts=len(prompts),
        longest_prompt=longest_prompt,
        largest_group=int(group_sizes.max()),
        longest_completion=longest,
        prompt_lengths=tensor(prompt_lengths),
        parent=tensor(parent),
        row_of_place=tensor(row_of_place),
        place_of_row=tensor(place_of_row),
        padding=tensor(np.flatnonzero(~is_real)),
        source=tensor(before[real]),
    )


def _starts(
    prompt_lengths: np.ndarray, lengths: np.ndarray, parent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First row of each prompt [N] and of each completion [M]."""
    group_sizes = prompt_lengths + np.bincount(parent, weights=lengths, minlength=len(prompt_lengths)).astype(
        np.int64
    )
    prompt_starts = np.cumsum(group_sizes) - group_sizes
    before = np.cumsum(lengths) - lengths  # completion tokens in front of each completion
    return prompt_starts, before + np.cumsum(prompt_lengths)[parent]


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


class TreeLayout:
    """Attention over a `TokenTree`: prompts as one causal batch, completions as another behind them.

    On a CPU completions attend in two parts (`shared_prefix`); with a window or softcap, or on another
    device, to their prompt's keys and their own side by side, under a mask.
    """

    def __init__(self, tree: TokenTree) -> None:
        self.tree = tree
        self._prompts_are_even = bool((tree.prompt_lengths == tree.longest_prompt).all())
        self._masks: dict[tuple[str, int | None], Tensor] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, H, S, D]
        key: Tensor,  # [1, K, S, D]
        value: Tensor,  # [1, K, S, D]
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:  # [1, S, H, D]
        """See `policy.attention.Layout`."""
        tree = self.tree
        if window is not None and window >= tree.longest_prompt + tree.longest_completion:
            window = None
        plain = window is None and softcap is None
        query_p, query_c = self._blocks(query)
        key_p, key_c = self._blocks(key)
        value_p, value_c = self._blocks(value)
        if plain:
            out_p = _sdpa(query_p, key_p, value_p, None, scale).transpose(1, 2)
        else:
            out_p = _attend(query_p, key_p, value_p, self._prompt_mask(window), scale, softcap)
        if plain and query.device.type == "cpu":
            bias = self._prompt_bias(query.dtype)
            out_c = shared_prefix_attention(query_c, key_p, value_p, key_c, value_c, bias, scale)
        else:
            keys, values = self._behind_prompts(key_p, key_c), self._behind_prompts(value_p, value_c)
            mask = self._completion_mask(window)
            out_c = _attend(query_c.flatten(0, 1), keys, values, mask, scale, softcap)
        heads = out_p.shape[2:]
        out = torch.cat([out_p.reshape(-1, *heads), out_c.reshape(-1, *heads)])
        return _Rearrange.apply(out, tree.place_of_row, tree.row_of_place, tree.padding)[None]

    def _blocks(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Flat states [1, ·, S, D] as prompts [N, P, ·, D] and completions [N, G, T, ·, D]."""
        tree = self.tree
        rows = states[0].transpose(0, 1)
        places = _Rearrange.apply(rows, tree.row_of_place, tree.place_of_row, None)
        cut = tree.prompts * tree.longest_prompt
        prompts, completions = places[:cut], places[cut:]
        return (
            prompts.unflatten(0, (tree.prompts, tree.longest_prompt)),
            completions.unflatten(0, (tree.prompts, tree.largest_group, tree.longest_completion)),
        )

    def _behind_prompts(self, prompts: Tensor, completions: Tensor) -> Tensor:
        """[N, P, K, D] and [N, G, T, K, D] side by side, [N·G, P + T, K, D]."""
        copies = prompts[:, None].expand(-1, self.tree.largest_group, -1, -1, -1)
        return torch.cat([copies, completions], 2).flatten(0, 1)

    def _prompt_mask(self, window: int | None) -> Tensor:  # [1, P, P] bool
        if ("prompt", window) not in self._masks:
            positions = torch.arange(self.tree.longest_prompt, device=self.tree.tokens.device)
            self._masks["prompt", window] = _visible(positions[:, None], positions[None], window)[None]
        return self._masks["prompt", window]

    def _prompt_bias(self, dtype: torch.dtype) -> Tensor | None:  # [N, 1, 1, P]; None where nothing is padded
        if self._prompts_are_even:
            return None
        if ("bias", None) not in self._masks:
            tree = self.tree
            padded = torch.arange(tree.longest_prompt) >= tree.prompt_lengths[:, None]
            bias = torch.zeros(padded.shape, dtype=dtype).masked_fill_(padded, float("-inf"))
            self._masks["bias", None] = bias[:, None, None]
        return self._masks["bias", None]

    def _completion_mask(self, window: int | None) -> Tensor:  # [N·G, T, P + T] bool
        if ("completion", window) not in self._masks:
            tree = self.tree
            device = tree.tokens.device
            lengths = tree.prompt_lengths.repeat_interleave(tree.largest_group)[:, None]  # [N·G, 1]
            in_prompt = torch.arange(tree.longest_prompt, device=device)[None]  # [1, P]
            own = lengths + torch.arange(tree.longest_completion, device=device)[None]  # [N·G, T]
            # A padded prompt place gets a position after every query's, so that no query sees it.
            after = tree.longest_prompt + tree.longest_completion
            in_prompt = torch.where(in_prompt < lengths, in_prompt, after)  # [N·G, P]
            keys = torch.cat([in_prompt, own], 1)  # [N·G, P + T]
            self._masks["completion", window] = _visible(own[:, :, None], keys[:, None], window)
        return self._masks["completion", window]


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
