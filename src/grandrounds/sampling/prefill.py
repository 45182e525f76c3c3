"""Prefill: computes the prompts' keys and values and their last states. A common beginning is computed once.

Shapes: N prompts, n of them computed at once, S tokens of the beginning that all prompts share, P tokens of the longest
rest of a prompt, Hq query heads, H key-value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from grandrounds.kernels.attention import AttentionRule, causal_attention
from grandrounds.policy.model import Policy

# Prompt tokens in one forward pass. A constant: a limit by free memory would change a resumed run's last bits. More
# tokens are no faster, and the widest activations of a 7B model hold 19,000 numbers for each token.
PREFILL_TOKENS = 8192
# A shorter common beginning is not worth its own forward pass.
SHARED_TOKENS = 32


class Prefixes:
    """Keys and values of N prompts by layer, stored prompt by prompt. Prompts shorter than P are padded with zeros."""

    def __init__(self, prompts: int, longest: int) -> None:
        self._prompts, self._longest = prompts, longest
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}  # [N, H, P, D] each

    def put(self, layer: int, prompt: int, key: Tensor, value: Tensor) -> None:
        """Store the keys and values [1, H, p, D] of the prompt with this number."""
        if layer not in self.layers:
            _, heads, _, width = key.shape
            shape = (self._prompts, heads, self._longest, width)
            # Zeros: padding gets zero weight, but zero times uninitialised memory may be NaN.
            self.layers[layer] = (key.new_zeros(shape), value.new_zeros(shape))
        for stored, new in zip(self.layers[layer], (key, value), strict=True):
            stored[prompt, :, : new.shape[2]] = new[0]


class Prefill:
    """Computes prompts on request. The beginning that all prompts share is computed once, in the constructor.

    shared: keys and values of the first `shared_tokens` tokens, or None where the prompts differ early.
    """

    def __init__(self, policy: Policy, prompts: Sequence[np.ndarray]) -> None:
        self._policy = policy
        self.shared_tokens = shared_tokens(prompts)
        self._rests = [tokens[self.shared_tokens :] for tokens in prompts]
        self.sizes = [len(rest) for rest in self._rests]
        self.shared: Prefixes | None = None
        if self.shared_tokens:
            shared = Prefixes(1, self.shared_tokens)
            self._pass([prompts[0][: self.shared_tokens]], shared, 0, 0)
            self.shared = shared

    def compute(self, numbers: Sequence[int]) -> tuple[Prefixes, Tensor]:
        """Keys and values of these prompts after the shared beginning, and the state [n, d] of each last token."""
        rests = [self._rests[number] for number in numbers]
        sizes = [len(rest) for rest in rests]
        prefixes = Prefixes(len(rests), max(sizes))
        states = [self._pass(rests[part], prefixes, part.start, self.shared_tokens) for part in _parts(sizes)]
        return prefixes, torch.cat(states)

    def _pass(self, rows: Sequence[np.ndarray], prefixes: Prefixes, first: int, before: int) -> Tensor:
        device, sizes = self._policy.device, [len(row) for row in rows]
        tokens = torch.from_numpy(np.concatenate(rows)).to(device)
        positions = torch.cat([torch.arange(before, before + size, device=device) for size in sizes])
        layout = PrefillLayout(sizes, prefixes, first, self.shared)
        hidden = self._policy.hidden(tokens[None], positions[None], layout)
        return hidden.index_select(0, torch.tensor(sizes, device=device).cumsum(0) - 1)


def shared_tokens(prompts: Sequence[np.ndarray]) -> int:
    """The number of tokens that all prompts begin with, less than the shortest prompt; 0 if below SHARED_TOKENS."""
    if len(prompts) < 2:
        return 0
    most = min(len(tokens) for tokens in prompts) - 1
    heads = np.stack([tokens[:most] for tokens in prompts])
    differs = (heads != heads[0]).any(0)
    count = int(differs.argmax()) if differs.any() else most
    return count if count >= SHARED_TOKENS else 0


class PrefillLayout:
    """Causal attention within each of n prompts, after the shared beginning. Stores keys and values in `prefixes`."""

    def __init__(self, sizes: list[int], prefixes: Prefixes, first: int, shared: Prefixes | None) -> None:
        self._sizes, self._prefixes, self._first, self._shared = sizes, prefixes, first, shared

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> Tensor:
        """See `kernels.attention.Layout`."""
        out = []
        prompts = zip(*(states.split(self._sizes, 2) for states in (query, key, value)), strict=True)
        for number, (own_query, own_key, own_value) in enumerate(prompts, start=self._first):
            self._prefixes.put(layer, number, own_key, own_value)
            if self._shared is not None:
                shared_key, shared_value = self._shared.layers[layer]
                own_key = torch.cat([shared_key, own_key], 2)
                own_value = torch.cat([shared_value, own_value], 2)
            out.append(causal_attention(own_query, own_key, own_value, rule))
        return torch.cat(out, 2).transpose(1, 2)


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Slices of consecutive prompts with at most PREFILL_TOKENS tokens in all, or a single longer prompt."""
    start, tokens = 0, 0
    for index, size in enumerate(sizes):
        if index > start and tokens + size > PREFILL_TOKENS:
            yield slice(start, index)
            start, tokens = index, 0
        tokens += size
    yield slice(start, len(sizes))
