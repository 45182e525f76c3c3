"""The KV cache of decoding: one copy for what all prompts share, one for each prompt, and each row's own columns.

A row is one completion, or several of a group that agree so far. Attention computes each of the three parts by itself
and merges them exactly.

Shapes: N groups, n the most rows that any of them has, B rows, S tokens that all prompts begin with, P longest rest of
a prompt, T longest completion, Hq query heads, H key-value heads, R = Hq / H, D numbers per head.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix.merge import additive_mask, attention, attention_output, merged
from grandrounds.sampling.prefill import Prefixes

# Of the rows that are decoded together. A constant: if it followed the free memory, rows would be batched differently
# each time, and the last bits of a resumed run would differ.
KV_CACHE_BYTES = 2 * 2**30


@dataclass
class _Layer:
    """One layer's keys and values."""

    prefix_keys: Tensor  # [N, H, P, D]
    prefix_values: Tensor
    keys: Tensor  # [B or more, H, T, D]; P + T columns once the prompts are merged
    values: Tensor


@dataclass(frozen=True)
class _Masks:
    """One step's additive attention mask for each part; None where nothing is masked."""

    shared: Tensor | None  # [1, 1, R B, S]
    prompt: Tensor | None  # [N, 1, 1 or n R, P]
    own: Tensor | None  # [B, 1, 1, columns], the prompt's columns in front once the prompts are merged

    def overwrite(self, others: _Masks) -> None:
        """Copy the values of another step of the same shape into these tensors."""
        for field in fields(self):
            here, there = getattr(self, field.name), getattr(others, field.name)
            if here is not None:
                here.copy_(there)


class KVCache:
    """Attention of one new token for each of B rows to its prompt and its own earlier tokens.

    A prompt's keys are read once for all its rows. Every decoding step writes one column, the same for all rows. A row
    sees its own columns from its start step on. When each prompt has one row left, and no row will join or be forked,
    each prompt is merged with its row's own columns, so that attention has one part less.

    stride: attention covers a multiple of so many columns; columns not yet written are masked. While `shape` stays the
    same, steps differ only in the values of tensors, so that a CUDA graph of one step serves for the others.
    """

    def __init__(
        self,
        max_new_tokens: int,
        device: torch.device,
        shared: Prefixes | None,
        shared_tokens: int,
        stride: int = 1,
    ) -> None:
        self.step = 0  # the next column to be written
        self.shape = 0  # counts the changes of the number of rows or columns
        self.start = torch.empty(
            0, dtype=torch.int64, device=device
        )  # [B], the step at which each row joined
        self.group = torch.empty_like(self.start)  # [B]
        self.lengths = torch.empty_like(self.start)  # [N], of the prompts behind what they share
        self._max_new_tokens, self._stride = max_new_tokens, stride
        self._shared, self._shared_tokens = shared, shared_tokens
        self._columns = 0  # that attention covers
        self._write_at = torch.zeros(1, dtype=torch.int64, device=device)  # the column of this step
        self._prefix_columns = 0  # of the merged prompts, in front of the rows' own
        self._all_joined = False  # whether all rows have joined
        self._forks = False  # whether a row may be forked
        self._layers: dict[int, _Layer] = {}
        self._masks: dict[tuple[int | None, int, torch.dtype], _Masks] = {}  # by window, R, type

    @property
    def generated(self) -> Tensor:
        """[B] tokens of each row's completion so far."""
        return self.step - self.start

    @property
    def positions(self) -> Tensor:
        """[B] of the tokens about to be decoded."""
        return self.lengths[self.group] + (self._shared_tokens + self.step) - self.start

    def advance(self) -> None:
        """Go on to the next column."""
        self.step += 1
        self._write_at += 1
        if self.step == self._columns:
            self._set_columns()
        for kind, masks in self._masks.items():
            masks.overwrite(self._masks_for(*kind))

    def keep(self, alive: Tensor, *, last_group: bool, forks: bool) -> list[int]:
        """Drop all rows but `alive` (increasing indices), and the groups without rows.

        The oldest row's first column becomes column 0. last_group: keep the last group even without rows. forks: a row
        may be forked later. Returns the old indices of the groups that stay.
        """
        self._forks = forks
        group, start = self.group[alive], self.start[alive]
        last = self.lengths.new_tensor([len(self.lengths) - 1] if last_group else [])
        kept = torch.unique(torch.cat([group, last]))
        first = int(start.min()) if len(alive) else self.step
        for layer in self._layers.values():
            for states in (layer.keys, layer.values):
                # In place; columns that are not written yet are not moved.
                prompts, own = states[:, :, : self._prefix_columns], states[:, :, self._prefix_columns :]
                prompts[: len(alive)] = prompts.index_select(0, alive)
                filled = own[:, :, first : self.step].index_select(0, alive)
                own[: len(alive), :, : self.step - first] = filled
            if len(kept) < len(self.lengths) and not self._prefix_columns:
                layer.prefix_keys, layer.prefix_values = layer.prefix_keys[kept], layer.prefix_values[kept]
        self.step, self.start = self.step - first, start - first
        self.group, self.lengths = torch.searchsorted(kept, group), self.lengths[kept]
        self._assign_slots()
        return kept.tolist()

    def fork(self, sources: Tensor, rows: Tensor, *, forks: bool) -> None:
        """Copy the rows `sources` [f] to `rows` [f], which have ended or come after the present ones. forks: further
        ones may follow."""
        self._forks = forks
        for layer in self._layers.values():
            for states in (layer.keys, layer.values):
                states[rows, :, : self.step] = states[sources, :, : self.step]
        further = max(0, int(rows.max()) + 1 - len(self.group))
        self.group = torch.cat([self.group, self.group.new_zeros(further)])
        self.start = torch.cat([self.start, self.start.new_zeros(further)])
        self.group[rows], self.start[rows] = self.group[sources], self.start[sources]
        self._assign_slots()

    def join(
        self,
        prefixes: Prefixes | None,
        lengths: Tensor,
        group: Tensor,
        *,
        last: bool,
        room: int,
        forks: bool,
    ) -> None:
        """Add rows of these groups [b], and new groups, of prompts with these lengths.

        last: no more rows will join. room: the most rows there will be until others join. forks: some by forks.
        """
        self._forks = forks
        rows = len(self.group) + len(group)
        for number, (keys, values) in (prefixes.layers if prefixes else {}).items():
            self._add_prompts(number, keys, values)
        for layer in self._layers.values():
            if len(layer.keys) < room:
                layer.keys, layer.values = self._grown(layer.keys, room), self._grown(layer.values, room)
            # The new rows' earlier columns are masked, but 0 times uninitialised memory may be NaN.
            layer.keys[len(self.group) : rows, :, : self.step] = 0
            layer.values[len(self.group) : rows, :, : self.step] = 0
        self.lengths = torch.cat([self.lengths, lengths])
        self.group = torch.cat([self.group, group])
        self.start = torch.cat([self.start, torch.full_like(group, self.step)])
        self._all_joined = last
        self._assign_slots()

    def _add_prompts(self, number: int, keys: Tensor, values: Tensor) -> None:
        layer = self._layers.get(number)
        if layer is None:
            empty = keys.new_empty(0, keys.shape[1], self._max_new_tokens, keys.shape[3])
            self._layers[number] = _Layer(keys, values, empty, empty)
        else:
            layer.prefix_keys = _stacked(layer.prefix_keys, keys)
            layer.prefix_values = _stacked(layer.prefix_values, values)

    def _grown(self, states: Tensor, rows: int) -> Tensor:
        room = states.new_empty(rows, *states.shape[1:])
        room[: len(states), :, : self.step] = states[:, :, : self.step]
        return room

    def _assign_slots(self) -> None:
        """Slots [N, n]: a block of n for each group's rows."""
        groups, rows = len(self.lengths), len(self.group)
        if not groups:
            return
        sizes = torch.bincount(self.group, minlength=groups)
        self._most_rows = int(sizes.max())
        first = sizes.cumsum(0) - sizes
        ordered, order = torch.sort(self.group, stable=True)
        numbers = torch.arange(rows, device=self.group.device)
        slot = torch.empty_like(self.group)
        slot[order] = ordered * self._most_rows + numbers - first[ordered]
        # Where every slot is taken, in the order of the rows, rows and slots are the same.
        same = rows == groups * self._most_rows and torch.equal(slot, numbers)
        self._slot = None if same else slot
        self._same_start = self._stride == 1 and not bool(self.start.any())
        longest = self._longest_prompt = self._prefix_columns or int(self.lengths.max())
        self._lengths_differ = bool((self.lengths < longest).any())
        for layer in self._layers.values():
            layer.prefix_keys = layer.prefix_keys[:, :, :longest]
            layer.prefix_values = layer.prefix_values[:, :, :longest]
        alone = self._most_rows == 1 and not self._forks
        if self._all_joined and alone and not self._prefix_columns:
            self._merge_prompts()
        if self._prefix_columns and self._lengths_differ == self._same_start:  # both masks or none
            self._lengths_differ, self._same_start = True, False
        self._set_columns()

    def _set_columns(self) -> None:
        """The number of rows, prompts or columns has changed."""
        self.shape += 1
        self._masks.clear()
        self._write_at.fill_(self._prefix_columns + self.step)
        self._columns = min((self.step // self._stride + 1) * self._stride, self._max_new_tokens)
        if self._stride > 1:
            ahead = slice(self._prefix_columns + self.step, self._prefix_columns + self._columns)
            for layer in self._layers.values():  # masked, but see `join`
                layer.keys[: len(self.group), :, ahead] = layer.values[: len(self.group), :, ahead] = 0

    def _merge_prompts(self) -> None:
        """Put each prompt in front of its row's columns."""
        self._prefix_columns = self._longest_prompt
        for layer in self._layers.values():
            layer.keys = self._with_prompt(layer.prefix_keys, layer.keys)
            layer.values = self._with_prompt(layer.prefix_values, layer.values)
            layer.prefix_keys = layer.prefix_values = layer.keys[:0]

    def _with_prompt(self, prompts: Tensor, own: Tensor) -> Tensor:
        """Each row's prompt and own columns as one, [B, H, P + T, D]."""
        prompts = prompts.index_select(0, self.group)
        rows, heads, longest, width = prompts.shape
        both = prompts.new_empty(rows, heads, longest + self._max_new_tokens, width)
        both[:, :, :longest] = prompts
        both[:, :, longest : longest + self.step] = own[:rows, :, : self.step]
        return both

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> Tensor:
        """See `kernels.attention.Layout`."""
        cached, rows, end = self._layers[layer], len(self.group), self._prefix_columns + self._columns
        heads, repeats, width = key.shape[1], query.shape[1] // key.shape[1], query.shape[-1]
        window = rule.window
        if window is not None and self._shared_tokens + self._longest_prompt + self._columns <= window:
            window = None
        kind = window, repeats, query.dtype
        if kind not in self._masks:
            self._masks[kind] = self._masks_for(*kind)
        masks = self._masks[kind]

        keys, values = cached.keys[:rows, :, :end], cached.values[:rows, :, :end]
        self._write(keys, key)
        self._write(values, value)
        queries = query[0].transpose(0, 1).reshape(rows, heads, repeats, width)
        own = queries, keys, values, masks.own
        if self._prefix_columns and self._shared is None:
            return attention_output(*own, rule).reshape(1, rows, -1, width)
        on = partial(attention, rule=rule)
        parts = [on(*own)]
        if not self._prefix_columns:
            out, log = on(self._to_slots(queries), cached.prefix_keys, cached.prefix_values, masks.prompt)
            parts.append((self._from_slots(out, repeats), self._from_slots(log[..., None], repeats)[..., 0]))
        if self._shared is not None:
            # All rows see the same keys, so they are one block of queries.
            out, log = on(query.reshape(1, heads, -1, width), *self._shared.layers[layer], masks.shared)
            out, log = out.view(heads, repeats, rows, width), log.view(heads, repeats, rows)
            parts.append((out.permute(2, 0, 1, 3), log.permute(2, 0, 1)))
        return merged(parts).reshape(1, rows, -1, width)

    def _write(self, columns: Tensor, new: Tensor) -> None:
        """Write keys or values [1, H, B, D] of the new tokens into their column of [B, H, columns, D]."""
        if self._stride == 1:  # the last column; on a CPU in a third of the time
            columns[:, :, -1] = new[0].transpose(0, 1)
        else:
            columns.index_copy_(2, self._write_at, new.transpose(0, 2))

    def _masks_for(self, window: int | None, repeats: int, dtype: torch.dtype) -> _Masks:
        """Masks padding, other rows' columns, columns not yet written, and what the window leaves out."""
        device = self.group.device
        columns = torch.arange(self._columns, device=device)
        steps = torch.arange(self._longest_prompt, device=device)
        padding = steps >= self.lengths[:, None]  # [N, P]
        other = (columns < self.start[:, None]) | (columns > self.step)  # [B, now]
        shared: Tensor | None = None
        in_rows = bool(self._prefix_columns)  # the prompts are merged with the rows
        if window is None:
            padding = padding[self.group] if in_rows else padding
            prompt = additive_mask(padding, dtype)[:, None, None] if self._lengths_differ else None
            own = None if self._same_start else additive_mask(other, dtype)[:, None, None]
        else:
            last = (self.positions - window)[:, None]  # [B, 1], the last position outside of the window
            before = torch.arange(self._shared_tokens, device=device) <= last  # [B, S]
            shared = additive_mask(before, dtype).repeat(repeats, 1)[None, None]
            far = padding[self.group] | (self._shared_tokens + steps <= last)  # [B, P]
            prompt = additive_mask(far, dtype)[:, None, None]
            if not in_rows:
                prompt = self._to_slots(prompt.repeat(1, 1, repeats, 1))
            own = additive_mask(other | (columns <= self.step - window), dtype)[:, None, None]
        if in_rows and prompt is not None and own is not None:
            own, prompt = torch.cat([prompt, own], -1), None
        return _Masks(shared, prompt, own)

    def _to_slots(self, rows: Tensor) -> Tensor:
        """[B, H, R, ·] as [N, H, n R, ·], with zeros in empty slots."""
        shape = rows.shape[1:]
        if self._slot is not None:
            rows = rows.new_zeros(len(self.lengths) * self._most_rows, *shape).index_copy_(
                0, self._slot, rows
            )
        heads, repeats, width = shape
        slots = rows.reshape(-1, self._most_rows, heads, repeats, width).transpose(1, 2)
        return slots.reshape(-1, heads, self._most_rows * repeats, width)

    def _from_slots(self, slots: Tensor, repeats: int) -> Tensor:
        """[N, H, n R, ·] as [B, H, R, ·]."""
        _, heads, _, width = slots.shape
        rows = slots.reshape(-1, heads, self._most_rows, repeats, width).transpose(1, 2)
        rows = rows.reshape(-1, heads, repeats, width)
        return rows if self._slot is None else rows.index_select(0, self._slot)


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    """[N, H, P, D] and [n, H, p, D] as one, the shorter padded with zeros."""
    count, heads, longest, width = first.shape
    both = first.new_zeros(count + len(second), heads, max(longest, second.shape[2]), width)
    both[:count, :, :longest], both[count:, :, : second.shape[2]] = first, second
    return both


def bytes_per_token(config: Any, element: int) -> int:
    """Bytes of one token's keys and values in all layers; element: bytes of a number."""
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * element
