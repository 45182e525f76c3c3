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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.policy import flex
from grandrounds.policy.shared_prefix import Family, Run, tree_attention


@dataclass(frozen=True, eq=False)
class TokenTree:
    """Prompts and their completions in one flat row.

    Neighbouring groups of one shape, whose completions are all of one length, lie as one family: their prompts
    first, then all completions. Every other group is a family of its own, as in the picture above.
    """

    tokens: Tensor  # [1, S]
    positions: Tensor  # [1, S], restarting after the prompt
    source: Tensor  # [C], the row whose state predicts each completion token
    prompt_starts: np.ndarray  # [N], first row of each prompt
    prompt_lengths: np.ndarray  # [N]
    starts: np.ndarray  # [M], first row of each completion
    lengths: np.ndarray  # [M]
    parent: np.ndarray  # [M], the prompt of each completion
    families: tuple[Family, ...]

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
    parent = np.repeat(np.arange(len(branches)), [len(group) for _, group in branches])
    prompt_lengths = np.array([len(prompt) for prompt in prompts])
    lengths = np.array([len(completion) for completion in completions])
    prompt_starts, starts = np.empty_like(prompt_lengths), np.empty_like(lengths)
    families = []
    row = 0
    for first, last in _families([(len(prompt), [len(c) for c in group]) for prompt, group in branches]):
        behind = np.flatnonzero((parent >= first) & (parent < last))
        sizes = np.concatenate([prompt_lengths[first:last], lengths[behind]])
        begins = row + np.cumsum(sizes) - sizes
        prompt_starts[first:last], starts[behind] = begins[: last - first], begins[last - first :]
        families.append(_family(row, last - first, int(prompt_lengths[first]), lengths[behind]))
        row += int(sizes.sum())

    tokens = np.empty(row, np.int64)
    positions = np.empty(row, np.int64)
    offsets = np.concatenate([np.zeros(len(prompts), np.int64), prompt_lengths[parent]])
    for start, sequence, offset in zip(
        (*prompt_starts, *starts), (*prompts, *completions), offsets, strict=True
    ):
        tokens[start : start + len(sequence)] = sequence
        positions[start : start + len(sequence)] = np.arange(offset, offset + len(sequence))
    # A completion's first token is predicted by its prompt's last, the others by the one before.
    sources = [
        np.arange(start - 1, start + length - 1) for start, length in zip(starts, lengths, strict=True)
    ]
    for source, group in zip(sources, parent, strict=True):
        source[0] = prompt_starts[group] + prompt_lengths[group] - 1
    return TokenTree(
        tokens=torch.from_numpy(tokens).to(device)[None],
        positions=torch.from_numpy(positions).to(device)[None],
        source=torch.from_numpy(np.concatenate(sources)).to(device),
        prompt_starts=prompt_starts,
        prompt_lengths=prompt_lengths,
        starts=starts,
        lengths=lengths,
        parent=parent,
        families=tuple(families),
    )


def _families(shapes: Sequence[tuple[int, list[int]]]) -> Iterator[tuple[int, int]]:
    """Groups first … last - 1 of each family; shapes: prompt length and completion lengths of each group."""
    first = 0
    for index, (prompt, lengths) in enumerate(shapes):
        alike = shapes[first] == (prompt, lengths) and len(set(lengths)) == 1
        if index > first and not alike:
            yield first, index
            first = index
    yield first, len(shapes)


def _family(row: int, prompts: int, prompt_length: int, lengths: np.ndarray) -> Family:
    """`prompts` prompts from `row` on, and behind them completions of these lengths, [m]."""
    cut = row + prompts * prompt_length
    ends = cut + np.cumsum(lengths)
    changes = np.flatnonzero(np.diff(lengths)) + 1
    runs = tuple(
        Run(slice(int(ends[first] - lengths[first]), int(ends[last - 1])), int(lengths[first]))
        for first, last in pairwise([0, *changes, len(lengths)])
    )
    joined = Run(slice(cut, int(ends[-1])), int(lengths.sum()) // prompts)
    return Family(Run(slice(row, cut), prompt_length), runs, joined)


def sight(tree: TokenTree, window: int | None) -> flex.Sight:
    """What each row sees: its own sequence up to itself, and behind a prompt the prompt; `window` rows back at most."""
    own, first, last = np.zeros((3, tree.size), np.int32)
    for start, length in zip(tree.prompt_starts, tree.prompt_lengths, strict=True):
        own[start : start + length] = start
    for start, length, prompt in zip(tree.starts, tree.lengths, tree.parent, strict=True):
        own[start : start + length] = start
        first[start : start + length] = tree.prompt_starts[prompt]
        last[start : start + length] = tree.prompt_starts[prompt] + tree.prompt_lengths[prompt]
    if window is not None:
        rows = np.arange(tree.size, dtype=np.int32)
        hidden = np.maximum(rows - own + last - first - window + 1, 0)  # positions too far back
        own, first = np.maximum(own, rows - window + 1), first + hidden
    bounds = torch.from_numpy(np.stack([own, first, last])).to(tree.tokens.device)
    return flex.Sight(*bounds)


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


class TreeLayout:
    """Attention over a `TokenTree`.

    On a CPU in parts that are not padded (`shared_prefix`), on a CUDA device over blocks of the row (`flex`). With a
    window or softcap on a CPU, on any other device, or where FlexAttention does not compile, padded: prompts as one
    causal batch, completions as another, each attending to its prompt's keys and its own side by side, under a mask.
    """

    def __init__(self, tree: TokenTree) -> None:
        self.tree = tree
        self._reach = int(tree.prompt_lengths.max() + tree.lengths.max())  # at least the longest sequence
        self._padded: _Blocks | None = None
        self._masks: dict[tuple[str, int | None], Tensor] = {}
        self._block_masks: dict[int | None, flex.BlockMask] = {}

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
        if window is not None and window >= self._reach:
            window = None
        if flex.serves(query, key, scale, softcap):
            if window not in self._block_masks:
                self._block_masks[window] = flex.block_mask(sight(self.tree, window))
            return flex.attend(query, key, value, self._block_masks[window], scale, softcap)
        if window is None and softcap is None and query.device.type == "cpu":
            rows_q, rows_k, rows_v = (states[0].transpose(0, 1) for states in (query, key, value))
            return tree_attention(rows_q, rows_k, rows_v, self.tree.families, scale)[None]
        return self._attend_masked(query, key, value, scale, window, softcap)

    @property
    def _blocks(self) -> _Blocks:
        if self._padded is None:
            self._padded = _blocks(self.tree)
        return self._padded

    def _attend_masked(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
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
