"""Training attention: each prompt is computed once and shared by its completions.

One flat row holds N prompts, each followed by its completions:

    row        p p p a a a a b b  q q c c c d
    position   0 1 2 3 4 5 6 3 4  0 1 2 3 4 2

A prompt token sees its prompt up to itself. A completion token sees its whole prompt and its own completion up to
itself, never a sibling. So every token's state, and every gradient, is what it would be if each completion stood alone
after its own copy of the prompt; only the copies are not computed. Everything except attention works on the flat row
and needs no padding.

Shapes: S tokens in the row, N prompts of at most P tokens, M completions of at most T tokens, at most G of one prompt,
C completion tokens in all; H query heads, K key-value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TokenTree:
    """Prompts and their completions in one flat row."""

    tokens: Tensor  # [1, S]
    positions: Tensor  # [1, S], restarting after the prompt
    source: Tensor  # [C], the row whose state predicts each completion token
    prompt_starts: np.ndarray  # [N], first row of each prompt
    prompt_lengths: np.ndarray  # [N]
    starts: np.ndarray  # [M], first row of each completion
    lengths: np.ndarray  # [M]
    parent: np.ndarray  # [M], the prompt of each completion

    @property
    def size(self) -> int:
        """Tokens in the row (S)."""
        return self.tokens.shape[1]


def token_tree(
    branches: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], device: torch.device | str = "cpu"
) -> TokenTree:
    """The tree of prompts (int [P], P > 0) and their completions (int [T], T > 0), in this order in one row."""
    sequences = [np.asarray(one) for prompt, group in branches for one in (prompt, *group)]
    is_prompt = np.array([place == 0 for _, group in branches for place in range(1 + len(group))])
    sizes = np.array([len(sequence) for sequence in sequences])
    starts = np.cumsum(sizes) - sizes
    prompt_starts, prompt_lengths = starts[is_prompt], sizes[is_prompt]
    parent = (np.cumsum(is_prompt) - 1)[~is_prompt]
    offsets = np.zeros_like(sizes)
    offsets[~is_prompt] = prompt_lengths[parent]
    positions = np.concatenate(
        [np.arange(size) + offset for size, offset in zip(sizes, offsets, strict=True)]
    )
    # A completion's first token is predicted by its prompt's last token, each other token by the one before it.
    source = np.arange(sizes.sum()) - 1
    source[starts[~is_prompt]] = (prompt_starts + prompt_lengths - 1)[parent]

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device)

    return TokenTree(
        tokens=tensor(np.concatenate(sequences))[None],
        positions=tensor(positions)[None],
        source=tensor(source[np.repeat(~is_prompt, sizes)]),
        prompt_starts=prompt_starts,
        prompt_lengths=prompt_lengths,
        starts=starts[~is_prompt],
        lengths=sizes[~is_prompt],
        parent=parent,
    )


def padded_sequences(tree: TokenTree) -> tuple[Tensor, Tensor, Tensor]:
    """Each completion after a copy of its prompt, right padded to L tokens: tokens [M, L] and mask [M, L].

    The third result, [C], is for each completion token the place in [M · L] whose state predicts it.
    """
    flat, device = tree.tokens[0], tree.tokens.device
    prompts = zip(tree.prompt_starts[tree.parent], tree.prompt_lengths[tree.parent], strict=True)
    rows, source = [], []
    longest = int((tree.prompt_lengths[tree.parent] + tree.lengths).max())
    for number, ((first, prompt), start, length) in enumerate(
        zip(prompts, tree.starts, tree.lengths, strict=True)
    ):
        rows.append(torch.cat([flat[first : first + prompt], flat[start : start + length]]))
        source.append(torch.arange(prompt - 1, prompt + length - 1, device=device) + number * longest)
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return tokens, mask, torch.cat(source)
