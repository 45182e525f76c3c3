"""The prompts' own pass: their keys and values, what they share computed once, and the states behind them.

Shapes: N prompts, n of them computed at once, S tokens that all begin with, P longest rest of a prompt, Hq query heads,
H key-value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.policy.model import Policy

# Prompt tokens, padding included, that pass the model at once. A constant, since what is free at the moment would
# change a resumed run's last bits; more gain nothing, and the widest layer of a 7B model holds 19,000 numbers for each.
PREFILL_TOKENS = 8192
# A shorter common beginning is not worth a pass of its own.
SHARED_TOKENS = 32


class Prefixes:
    """Keys and values of N prompts by layer, filled a part of the prompts at a time."""

    def __init__(self, prompts: int, longest: int) -> None:
        self._prompts, self._longest = prompts, longest
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}  # [N, H, P, D] each

    def put(self, layer: int, first: int, key: Tensor, value: Tensor) -> None:
        """Keys and values [n, H, p, D] of the prompts from number `first` on."""
        if layer not in self.layers:
            count, heads, _, width = key.shape
            if (count, key.shape[2]) == (self._prompts, self._longest):
                # In order, or every step's matrix product would copy them.
                self.layers[layer] = (key.contiguous(), value.contiguous())
                return
            shape = (self._prompts, heads, self._longest, width)
            # Zeros: padding gets no weight, but no weight times what lies in fresh memory may be NaN.
            self.layers[layer] = (key.new_zeros(shape), value.new_zeros(shape))
        for stored, new in zip(self.layers[layer], (key, value), strict=True):
            stored[first : first + new.shape[0], :, : new.shape[2]] = new


class Prefill:
    """Computes prompts when they are asked for; what all begin with, at once and only then.

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
        """What these prompts have of their own, and the state [n, d] of each one's last token."""
        rests = [self._rests[number] for number in numbers]
        sizes = [len(rest) for rest in rests]
        prefixes = Prefixes(len(rests), max(sizes))
        states = [self._pass(rests[part], prefixes, part.start, self.shared_tokens) for part in _parts(sizes)]
        return prefixes, torch.cat(states)

    def _pass(self, rows: Sequence[np.ndarray], prefixes: Prefixes, first: int, before: int) -> Tensor:
        device = self._policy.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        tokens = torch.from_numpy(np.concatenate(rows)).to(device)
        positions = torch.cat([torch.arange(before, before + len(row), device=device) for row in rows])
        layout = PrefillLayout(lengths, prefixes, first, self.shared)
        hidden = self._policy.hidden(tokens[None], positions[None], layout)
        return hidden.index_select(0, lengths.cumsum(0) - 1)


def shared_tokens(prompts: Sequence[np.ndarray]) -> int:
    """How many tokens all of several prompts begin with, at least one of each left over; 0 if few."""
    if len(prompts) < 2:
        return 0
    most = min(len(tokens) for tokens in prompts) - 1
    heads = np.stack([tokens[:most] for tokens in prompts])
    differs = (heads != heads[0]).any(0)
    count = int(differs.argmax()) if differs.any() else most
    return count if count >= SHARED_TOKENS else 0


class PrefillLayout:
    """Causal attention within each of n right-padded rows behind what is shared; keys and values go to `prefixes`."""

    def __init__(self, lengths: Tensor, prefixes: Prefixes, first: int, shared: Prefixes | None) -> None:
        longest = int(lengths.max())
        steps = torch.arange(longest, device=lengths.device)
        starts = lengths.cumsum(0) - lengths
        real = steps < lengths[:, None]  # [n, P]
        self._rows = torch.where(real, starts[:, None] + steps, 0)
        self._places = real.flatten().nonzero()[:, 0]  # place of each row, in order
        self._prefixes, self._first, self._shared = prefixes, first, shared

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """See `policy.attention.Layout`."""
        query, key, value = (self._padded(states) for states in (query, key, value))  # [n, ·, P, D]
        self._prefixes.put(layer, self._first, key, value)
        if self._shared is not None:
            before = [states.expand(len(key), -1, -1, -1) for states in self._shared.layers[layer]]
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        if window is not None and window >= key.shape[2]:
            window = None
        if softcap is None:
            plain = window is None and self._shared is None
            out = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if plain else _visible(query, key, window),
                is_causal=plain,
                scale=scale,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        else:
            repeats = query.shape[1] // key.shape[1]
            scores = query @ key.repeat_interleave(repeats, 1).mT * scale
            scores = softcap * torch.tanh(scores / softcap)
            scores = scores.masked_fill(~_visible(query, key, window), -torch.inf)
            precise = torch.promote_types(scores.dtype, torch.float32)
            weights = torch.softmax(scores, -1, dtype=precise).to(scores.dtype)
            out = weights @ value.repeat_interleave(repeats, 1)
        return out.transpose(1, 2).flatten(0, 1).index_select(0, self._places)[None]

    def _padded(self, states: Tensor) -> Tensor:
        """[1, ·, S, D] as [n, ·, P, D]."""
        rows = states[0].transpose(0, 1).index_select(0, self._rows.flatten())
        return rows.view(*self._rows.shape, *rows.shape[1:]).transpose(1, 2)


def _visible(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """[P, S + P] bool: the last P of so many keys are the queries' own."""
    keys = torch.arange(key.shape[2], device=key.device)
    distance = keys[-query.shape[2] :, None] - keys
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Prompts of these lengths in runs that hold PREFILL_TOKENS at most once padded alike; at least one prompt."""
    start, longest = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (index + 1 - start) * max(longest, size) > PREFILL_TOKENS:
            yield slice(start, index)
            start, longest = index, 0
        longest = max(longest, size)
    yield slice(start, len(sizes))
