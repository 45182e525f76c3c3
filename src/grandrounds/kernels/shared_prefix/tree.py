"""Training attention: each prompt is computed once and shared by its completions.

One flat row holds N prompts, each followed by its completions:

    row        p p p a a a a b b  q q c c c d
    position   0 1 2 3 4 5 6 3 4  0 1 2 3 4 2

A prompt token sees its prompt up to itself. A completion token sees its whole prompt and its own completion up to
itself, never a sibling. So every token's state, and every gradient, is what it would be if each completion stood alone
after its own copy of the prompt; only the copies are not computed. Everything except attention works on the flat row
and needs no padding.

Completions of one prompt may be merged: what all of them begin with is computed once, behind the prompt, and so is a
completion that was sampled several times. Completions of few tokens, or of a policy that is sure, often agree.

Shapes: S tokens in the row, N prompts of at most P tokens, M completions of at most T tokens, at most G of one prompt,
C completion tokens in all, U of them distinct; H query heads, K key-value heads, D numbers per head.
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
    source: Tensor  # [U], the row whose state predicts each distinct completion token
    prompt_starts: np.ndarray  # [N], first row of each prompt
    prompt_lengths: np.ndarray  # [N], with what its completions begin with
    starts: np.ndarray  # [distinct completions], first row of each
    lengths: np.ndarray  # [distinct completions], of the rest behind what they begin with
    parent: np.ndarray  # [distinct completions], the prompt of each
    copies: Tensor | None = (
        None  # [C], each completion token among the distinct ones; None where all are distinct
    )

    @property
    def size(self) -> int:
        """Tokens in the row (S)."""
        return self.tokens.shape[1]


@dataclass(frozen=True)
class Merged:
    """The completions of one prompt, with what they share.

    common: tokens that all begin with, where they are not all the same. distinct: the rest of each different
    completion, by length. which: [M], the one among them that each completion is.
    """

    common: np.ndarray
    distinct: tuple[np.ndarray, ...]
    which: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that are computed."""
        return len(self.common) + sum(map(len, self.distinct))


def merged(completions: Sequence[np.ndarray]) -> Merged:
    """The completions (int [T], T > 0) without repetitions."""
    places: dict[bytes, int] = {}
    which = [places.setdefault(np.asarray(one, np.int64).tobytes(), len(places)) for one in completions]
    distinct = [np.frombuffer(key, np.int64) for key in places]
    common = _common(distinct) if len(distinct) > 1 else 0
    # Completions of one length are neighbours, so that attention computes them together.
    order = sorted(range(len(distinct)), key=lambda place: len(distinct[place]))
    rank = {place: number for number, place in enumerate(order)}
    return Merged(
        distinct[0][:common],
        tuple(distinct[place][common:] for place in order),
        tuple(rank[place] for place in which),
    )


def _common(sequences: Sequence[np.ndarray]) -> int:
    """The number of tokens that all begin with, less than the shortest has."""
    most = min(map(len, sequences)) - 1
    heads = np.stack([tokens[:most] for tokens in sequences])
    differs = (heads != heads[0]).any(0)
    return int(differs.argmax()) if differs.any() else most


def _apart(completions: Sequence[np.ndarray]) -> Merged:
    """The completions as they are, each by itself."""
    return Merged(np.zeros(0, np.int64), tuple(map(np.asarray, completions)), tuple(range(len(completions))))


def token_tree(
    branches: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]],
    device: torch.device | str = "cpu",
    *,
    merge: bool = False,
) -> TokenTree:
    """The tree of prompts (int [P], P > 0) and their completions (int [T], T > 0), in this order in one row.

    merge: compute what completions of one prompt share once.
    """
    groups = [merged(group) if merge else _apart(group) for _, group in branches]
    sequences = [
        one
        for (prompt, _), group in zip(branches, groups, strict=True)
        for one in (np.concatenate([np.asarray(prompt), group.common]), *group.distinct)
    ]
    is_prompt = np.array([place == 0 for group in groups for place in range(1 + len(group.distinct))])
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
    predicted = np.repeat(~is_prompt, sizes)
    for first, length, group in zip(prompt_starts, prompt_lengths, groups, strict=True):
        predicted[first + length - len(group.common) : first + length] = True

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device)

    return TokenTree(
        tokens=tensor(np.concatenate(sequences))[None],
        positions=tensor(positions)[None],
        source=tensor(source[predicted]),
        prompt_starts=prompt_starts,
        prompt_lengths=prompt_lengths,
        starts=starts[~is_prompt],
        lengths=sizes[~is_prompt],
        parent=parent,
        copies=tensor(_copies(groups)) if merge else None,
    )


def _copies(groups: Sequence[Merged]) -> np.ndarray:
    """For each completion token, in the order of the completions, its place among the distinct ones, [C]."""
    places, first = [], 0
    for group in groups:
        sizes = np.array([len(group.common), *map(len, group.distinct)])
        starts = first + np.cumsum(sizes) - sizes
        parts = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        places += [np.concatenate([parts[0], parts[1 + number]]) for number in group.which]
        first += int(sizes.sum())
    return np.concatenate(places)


def padded_sequences(tree: TokenTree) -> tuple[Tensor, Tensor, Tensor]:
    """Each completion of a tree without merged ones after a copy of its prompt, right padded to L tokens: tokens [M, L]
    and mask [M, L].

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
