"""Keys and values while sampling: each prompt's once per group, each row's own behind it.

Shapes: N groups, n of them prefilled at once, B live rows (completions), P longest prompt, T longest completion,
Hq query heads, H key-value heads, R = Hq / H, D numbers per head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class _Layer:
    """One layer's keys and values."""

    prefix_keys: Tensor  # [N, H, P, D]
    prefix_values: Tensor
    keys: Tensor  # [B, H, T, D], filled up to the current step
    values: Tensor


class Prefixes:
    """Keys and values of a wave's N prompts by layer, filled a part of the prompts at a time."""

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


class PrefillLayout:
    """Causal attention within each of n right-padded prompts, whose keys and values go into `prefixes`."""

    def __init__(self, lengths: Tensor, prefixes: Prefixes, first: int) -> None:
        longest = int(lengths.max())
        steps = torch.arange(longest, device=lengths.device)
        starts = lengths.cumsum(0) - lengths
        real = steps < lengths[:, None]  # [n, P]
        self._rows = torch.where(real, starts[:, None] + steps, 0)
        self._places = real.flatten().nonzero()[:, 0]  # place of each row, in order
        self._steps = steps
        self._prefixes, self._first = prefixes, first

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
        if window is not None and window >= len(self._steps):
            window = None
        if softcap is None:
            out = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if window is None else self._visible(window),
                is_causal=window is None,
                scale=scale,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        else:
            repeats = query.shape[1] // key.shape[1]
            scores = _capped(query @ key.repeat_interleave(repeats, 1).mT * scale, softcap)
            scores = scores.masked_fill(~self._visible(window), -torch.inf)
            out = _softmax(scores) @ value.repeat_interleave(repeats, 1)
        return out.transpose(1, 2).flatten(0, 1).index_select(0, self._places)[None]

    def _visible(self, window: int | None) -> Tensor:  # [P, P] bool
        distance = self._steps[:, None] - self._steps
        return distance >= 0 if window is None else (distance >= 0) & (distance < window)

    def _padded(self, states: Tensor) -> Tensor:
        """[1, ·, S, D] as [n, ·, P, D]."""
        rows = states[0].transpose(0, 1).index_select(0, self._rows.flatten())
        return rows.view(*self._rows.shape, *rows.shape[1:]).transpose(1, 2)


class DecodeLayout:
    """One new token for each of B rows, which sees its group's prompt and its own earlier tokens.

    The prompt's keys are read once per group for all its rows; nothing is copied but the new token's own keys.
    """

    def __init__(
        self,
        prefixes: Prefixes,
        lengths: Tensor,  # [N], of the prompts
        rows_per_group: int,
        longest: int,
    ) -> None:
        self.lengths = lengths
        self.group = torch.arange(len(lengths), device=lengths.device).repeat_interleave(
            rows_per_group
        )  # [B]
        self.step = 0
        self._layers: dict[int, _Layer] = {}
        for layer, (keys, values) in prefixes.layers.items():
            groups, heads, _, width = keys.shape
            shape = (groups * rows_per_group, heads, longest, width)
            self._layers[layer] = _Layer(keys, values, keys.new_empty(shape), values.new_empty(shape))
        self._arrange()

    @property
    def positions(self) -> Tensor:
        """[B] of the tokens about to be decoded."""
        return self.lengths[self.group] + self.step

    def keep(self, alive: Tensor) -> None:
        """Let go of all rows but `alive` (increasing indices), and of groups that have none left."""
        group = self.group[alive]
        kept, self.group = torch.unique(group, return_inverse=True)
        fewer = len(kept) < len(self.lengths)
        self.lengths = self.lengths[kept]
        for layer in self._layers.values():
            layer.keys, layer.values = self._moved(layer.keys, alive), self._moved(layer.values, alive)
            if fewer:
                layer.prefix_keys, layer.prefix_values = layer.prefix_keys[kept], layer.prefix_values[kept]
        self._arrange()

    def _moved(self, states: Tensor, alive: Tensor) -> Tensor:
        """The store's own memory with the living rows in front; what is not filled yet is not moved."""
        filled = states[:, :, : self.step].index_select(0, alive)
        states = states[: len(alive)]
        states[:, :, : self.step] = filled
        return states

    def _arrange(self) -> None:
        """Slots [N, n] for the rows of each group side by side, n the most rows that any group has left."""
        groups, rows = len(self.lengths), len(self.group)
        sizes = torch.bincount(self.group, minlength=groups)
        self._width = int(sizes.max())
        first = sizes.cumsum(0) - sizes
        within = torch.arange(rows, device=self.group.device) - first[self.group]
        # No index where every slot is taken: then rows and slots are the same.
        full = rows == groups * self._width
        self._slot = None if full else self.group * self._width + within
        longest = int(self.lengths.max())
        steps = torch.arange(longest, device=self.group.device)
        padded = steps >= self.lengths[:, None]
        self._padded = padded[:, None, None] if bool(padded.any()) else None  # [N, 1, 1, P]
        for layer in self._layers.values():
            layer.prefix_keys = layer.prefix_keys[:, :, :longest]
            layer.prefix_values = layer.prefix_values[:, :, :longest]

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
        """See `policy.attention.Layout`. One softmax over prompt and own scores: exact, no merging needed."""
        store, now = self._layers[layer], self.step + 1
        store.keys[:, :, self.step] = key[0].transpose(0, 1)
        store.values[:, :, self.step] = value[0].transpose(0, 1)
        rows, heads, width = len(self.group), key.shape[1], query.shape[-1]
        query = (query[0].transpose(0, 1) * scale).reshape(rows, heads, -1, width)  # [B, H, R, D]
        repeats = query.shape[2]

        # The cap comes before the masks: it would make -inf finite.
        on_prompt = _capped(self._to_slots(query) @ store.prefix_keys.mT, softcap)  # [N, H, n R, P]
        hidden = self._hidden(window)
        if hidden is not None:
            on_prompt = on_prompt.masked_fill(hidden, -torch.inf)
        on_own = _capped(query @ store.keys[:, :, :now].mT, softcap)  # [B, H, R, now]
        if window is not None and now > window:
            on_own[..., : now - window] = -torch.inf
        prompt = on_prompt.shape[-1]
        weights = _softmax(torch.cat([self._from_slots(on_prompt, repeats), on_own], -1))
        out = self._from_slots(self._to_slots(weights[..., :prompt]) @ store.prefix_values, repeats)
        out = out + weights[..., prompt:] @ store.values[:, :, :now]
        return out.reshape(1, rows, -1, width)

    def _hidden(self, window: int | None) -> Tensor | None:
        """Places of the prompts that are padding or out of the window's reach, [N, 1, 1, P]; None where none is."""
        if window is None or int(self.lengths.max()) + self.step < window:
            return self._padded
        steps = torch.arange(int(self.lengths.max()), device=self.lengths.device)
        lengths = self.lengths[:, None]
        return ((steps >= lengths) | (steps <= lengths + self.step - window))[:, None, None]

    def _to_slots(self, rows: Tensor) -> Tensor:
        """[B, H, R, ·] as [N, H, n R, ·]; empty slots are zero."""
        shape = rows.shape[1:]
        if self._slot is not None:
            rows = rows.new_zeros(len(self.lengths) * self._width, *shape).index_copy_(0, self._slot, rows)
        heads, repeats, width = shape
        slots = rows.view(-1, self._width, heads, repeats, width).transpose(1, 2)
        return slots.reshape(-1, heads, self._width * repeats, width)

    def _from_slots(self, slots: Tensor, repeats: int) -> Tensor:
        """[N, H, n R, ·] as [B, H, R, ·]."""
        _, heads, _, width = slots.shape
        rows = slots.view(-1, heads, self._width, repeats, width).transpose(1, 2)
        rows = rows.reshape(-1, heads, repeats, width)
        return rows if self._slot is None else rows.index_select(0, self._slot)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _softmax(scores: Tensor) -> Tensor:
    """In float32 at least, back in the scores' own type."""
    return torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
