"""From groups to packs. A pack is what the learner computes in one forward and backward pass.

Packing affects only memory and speed. The weights carry the whole objective, so any split into packs gives the same
loss and gradient up to floating-point noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grandrounds.kernels.shared_prefix.tree import TokenTree, merged, token_tree
from grandrounds.types import Completion, Group


@dataclass(frozen=True, eq=False)
class Pack:
    """All that the learner sees: tokens, their tree, and the weight of each of the C completion tokens."""

    tree: TokenTree
    lengths: np.ndarray  # [M], tokens of each completion
    targets: Tensor  # [C] int64, the completion tokens
    behaviour_logprobs: Tensor  # [C] float32; 0 for demonstrations, which were not sampled
    advantages: Tensor  # [C] float32
    weights: Tensor  # [C] float32
    reference_logprobs: Tensor | None = None  # [C] float32, of the reference policy
    temperature: float = 1.0  # at which the completions were sampled
    correction: Tensor | None = None  # [C] float32, where the sampler's log-probs are not the policy's
    per_token: float = 0.0  # 1 / tokens of the optimizer step that have an entropy bonus
    counted: Tensor | None = None  # [C] float32, 1 for tokens that are learned from, where not all are

    @property
    def offsets(self) -> np.ndarray:
        """int64 [M + 1]: completion m has the tokens offsets[m] … offsets[m + 1] - 1."""
        return np.concatenate([[0], np.cumsum(self.lengths)])


@dataclass(frozen=True)
class _Branch:
    """One completion with its prompt. `group` identifies the prompt; equal tokens do not make prompts the same."""

    group: int
    prompt: np.ndarray
    tokens: np.ndarray
    logprobs: np.ndarray  # [T]
    advantages: np.ndarray  # [T]
    weights: np.ndarray  # [T]


def packs(
    groups: Sequence[Group],
    advantages: Sequence[Any] | np.ndarray,  # N times G numbers, or N times G arrays [T]
    weights: np.ndarray,  # [N, G], the weight of each completion's tokens
    *,
    tokens_per_pack: int,
    temperature: float = 1.0,
    skip_zero_advantage: bool = True,
    per_token: float = 0.0,
    merge: bool = True,
    device: torch.device | str = "cpu",
) -> list[Pack]:
    """Packs of similar size, each of at most `tokens_per_pack` tokens with prompts. A longer branch gets its own pack.

    Completions of weight 0 are left out: they have no gradient. With `skip_zero_advantage`, which is right where there
    is neither a KL nor an entropy in the loss, completions of advantage 0 are left out too. With `merge`, what the
    completions of a group share is computed once. The result depends only on the arguments, and may be empty.
    """
    branches: list[list[_Branch]] = []
    for index, group in enumerate(groups):
        kept = [
            _branch(index, group, completion, advantage, float(weight))
            for completion, advantage, weight in zip(
                group.completions, advantages[index], weights[index], strict=True
            )
            if weight != 0 and len(completion.tokens) and not (skip_zero_advantage and not np.any(advantage))
        ]
        if kept:
            branches.append(kept)
    return [
        replace(_pack(part, temperature, device, merge=merge), per_token=per_token)
        for part in _balanced(branches, tokens_per_pack, merge=merge)
    ]


def _branch(index: int, group: Group, completion: Completion, advantage: Any, weight: float) -> _Branch:
    size = len(completion.tokens)
    advantages = np.broadcast_to(np.asarray(advantage), size)
    return _Branch(
        index, group.prompt.tokens, completion.tokens, completion.logprobs, advantages, np.full(size, weight)
    )


def likelihood_packs(
    examples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    tokens_per_pack: int,
    device: torch.device | str = "cpu",
) -> list[Pack]:
    """Packs for supervised fine-tuning, from prompts [P], completions [T] and the weight of each token [T]."""
    branches = [
        [_Branch(index, prompt, tokens, np.zeros(len(tokens)), np.ones(len(tokens)), np.asarray(weights))]
        for index, (prompt, tokens, weights) in enumerate(examples)
    ]
    return [
        _pack(part, 1.0, device, merge=False) for part in _balanced(branches, tokens_per_pack, merge=False)
    ]


def _balanced(groups: list[list[_Branch]], budget: int, *, merge: bool) -> list[list[_Branch]]:
    """As few packs as the budget allows, of similar size: cuts by the smallest budget that takes no more packs."""
    sized = [(_size(group, merge=merge), group) for group in groups]
    fitting = [size for size, _ in sized if size <= budget]
    low, high = max(fitting, default=budget), budget
    parts = _cut(sized, budget)
    while low < high:
        middle = (low + high) // 2
        fewer = _cut(sized, middle)
        if len(fewer) <= len(parts):
            parts, high = fewer, middle
        else:
            low = middle + 1
    return parts


def _size(group: list[_Branch], *, merge: bool) -> int:
    tokens = [branch.tokens for branch in group]
    return len(group[0].prompt) + (merged(tokens).size if merge else sum(map(len, tokens)))


def _cut(groups: list[tuple[int, list[_Branch]]], budget: int) -> list[list[_Branch]]:
    """Puts groups of similar length into the same pack, as many as fit, so that little is padded where rows are padded.

    A group that does not fit into one pack is split over several; each repeats its prompt. groups: with their sizes.
    """
    ordered = sorted(
        groups, key=lambda sized: (_longest(sized[1]), len(sized[1][0].prompt), sized[1][0].group)
    )
    parts: list[list[_Branch]] = []
    room = 0
    for size, group in ordered:
        if size <= budget:
            if size > room:
                parts.append([])
                room = budget
            parts[-1].extend(group)
            room -= size
            continue
        room = 0
        for branch in sorted(group, key=lambda branch: len(branch.tokens)):
            if len(branch.tokens) > room:
                parts.append([])
                room = budget - len(branch.prompt)
            parts[-1].append(branch)
            room -= len(branch.tokens)
        room = 0
    return parts


def _longest(group: list[_Branch]) -> int:
    return max(len(branch.tokens) for branch in group)


def _pack(branches: list[_Branch], temperature: float, device: torch.device | str, *, merge: bool) -> Pack:
    """A pack of branches. Branches of one group are already contiguous, and share its prompt."""
    groups: dict[int, list[_Branch]] = {}
    for branch in branches:
        groups.setdefault(branch.group, []).append(branch)
    tree = token_tree(
        [(group[0].prompt, [branch.tokens for branch in group]) for group in groups.values()],
        device,
        merge=merge,
    )

    def joined(parts: Iterable[np.ndarray], dtype: type) -> Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(part, dtype) for part in parts])).to(device)

    return Pack(
        tree=tree,
        lengths=np.array([len(branch.tokens) for branch in branches]),
        targets=joined((branch.tokens for branch in branches), np.int64),
        behaviour_logprobs=joined((branch.logprobs for branch in branches), np.float32),
        advantages=joined((branch.advantages for branch in branches), np.float32),
        weights=joined((branch.weights for branch in branches), np.float32),
        temperature=temperature,
    )
