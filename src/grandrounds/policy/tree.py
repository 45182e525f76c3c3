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

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.shared_prefix import Family, Run


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
