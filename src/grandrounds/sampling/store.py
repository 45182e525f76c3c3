"""Keys and values while decoding: what all prompts share once, each prompt's once per group, each row's own behind it.

Shapes: N groups, B live rows (completions), S tokens that all prompts begin with, P longest rest of a prompt, T longest
completion, Hq query heads, H key-value heads, R = Hq / H, D numbers per head.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from grandrounds.kernels.attention import Scoring
from grandrounds.kernels.shared_prefix.merge import attention, merged, undivided_attention, unseen
from grandrounds.sampling.prefill import Prefixes


@dataclass
class _Layer:
    """One layer's keys and values."""

    prefix_keys: Tensor  # [N, H, P, D]
    prefix_values: Tensor
    keys: Tensor  # [B or more, H, T, D]; P + T columns once the prompts have been brought over
    values: Tensor


@dataclass(frozen=True)
class _Biases:
    """What a step's queries do not see of each part, 0 or UNSEEN; None where they see all."""

    shared: Tensor | None  # [1, 1, R B, S]
    prompt: Tensor | None  # [N, 1, 1 or n R, P]
    own: Tensor | None  # [B, 1, 1, now], the prompt's columns in front where they have been brought over

    def become(self, others: _Biases) -> None:
        """Take the values of another step of the same shape."""
        for field in fields(self):
            here, there = getattr(self, field.name), getattr(others, field.name)
            if here is not None:
                here.copy_(there)


class DecodeLayout:
    """One new token for each of B rows, which sees its prompt and its own earlier tokens.

    A prompt's keys are read once for all its rows; nothing is copied but the new token's own keys. All rows write the
    column `clock`; one that joined at column `born` sees its own columns from there on. Rows of a group lie side by
    side. When each prompt has one row left and none will join, its keys are brought over to that row's own, so that
    attention has one part less.

    stride: attention is over a multiple of so many columns, those to come masked. While `shape` stays the same, steps
    differ by what tensors hold alone, and one of them can be recorded for the others.
    """

    def __init__(
        self, longest: int, device: torch.device, shared: Prefixes | None, shared_tokens: int, stride: int = 1
    ) -> None:
        self.clock = 0
        self.shape = 0  # counts the times that rows or columns were laid out anew
        self.born = torch.empty(0, dtype=torch.int64, device=device)  # [B]
        self.group = torch.empty_like(self.born)  # [B]
        self.lengths = torch.empty_like(self.born)  # [N], of the prompts' rests
        self._longest, self._stride = longest, stride
        self._shared, self._shared_tokens = shared, shared_tokens
        self._now = 0  # columns that attention is over
        self._column = torch.zeros(1, dtype=torch.int64, device=device)  # the clock's, in the store
        self._front = 0  # columns in front of the rows' own: the prompts', once brought over
        self._complete = False  # whether all rows have joined
        self._layers: dict[int, _Layer] = {}
        self._biases: dict[tuple[int | None, int, torch.dtype], _Biases] = {}  # by window, R, type

    @property
    def ages(self) -> Tensor:
        """[B] tokens that each row has behind its prompt."""
        return self.clock - self.born

    @property
    def positions(self) -> Tensor:
        """[B] of the tokens about to be decoded."""
        return self.lengths[self.group] + (self._shared_tokens + self.clock) - self.born

    def advance(self) -> None:
        """The column is filled."""
        self.clock += 1
        self._column += 1
        if self.clock == self._now:
            self._reshape()
        for sort, biases in self._biases.items():
            biases.become(self._unseen(*sort))

    def keep(self, alive: Tensor, *, last_group: bool) -> list[int]:
        """Let go of all rows but `alive` (increasing indices), and of groups that have none left.

        The oldest row's first column becomes the first of all. last_group: keep that one in any case.
        Returns the numbers, among the groups before, of those that stay.
        """
        group, born = self.group[alive], self.born[alive]
        last = self.lengths.new_tensor([len(self.lengths) - 1] if last_group else [])
        kept = torch.unique(torch.cat([group, last]))
        first = int(born.min()) if len(alive) else self.clock
        for layer in self._layers.values():
            for states in (layer.keys, layer.values):
                # In the store's own memory; what is not filled yet is not moved.
                prompts, own = states[:, :, : self._front], states[:, :, self._front :]
                prompts[: len(alive)] = prompts.index_select(0, alive)
                filled = own[:, :, first : self.clock].index_select(0, alive)
                own[: len(alive), :, : self.clock - first] = filled
            if len(kept) < len(self.lengths) and not self._front:
                layer.prefix_keys, layer.prefix_values = layer.prefix_keys[kept], layer.prefix_values[kept]
        self.clock, self.born = self.clock - first, born - first
        self.group, self.lengths = torch.searchsorted(kept, group), self.lengths[kept]
        self._arrange()
        return kept.tolist()

    def join(self, prefixes: Prefixes | None, lengths: Tensor, group: Tensor, *, last: bool) -> None:
        """Rows of these groups [b] come in; with them further groups, of prompts with these lengths [n].

        last: whether no further rows will come.
        """
        rows = len(self.group) + len(group)
        for number, (keys, values) in (prefixes.layers if prefixes else {}).items():
            self._add(number, keys, values)
        for layer in self._layers.values():
            if len(layer.keys) < rows:
                layer.keys, layer.values = self._roomier(layer.keys, rows), self._roomier(layer.values, rows)
            # Columns from before the rows came get no weight, but no weight times fresh memory may be NaN.
            layer.keys[len(self.group) : rows, :, : self.clock] = 0
            layer.values[len(self.group) : rows, :, : self.clock] = 0
        self.lengths = torch.cat([self.lengths, lengths])
        self.group = torch.cat([self.group, group])
        self.born = torch.cat([self.born, torch.full_like(group, self.clock)])
        self._complete = last
        self._arrange()

    def _add(self, number: int, keys: Tensor, values: Tensor) -> None:
        layer = self._layers.get(number)
        if layer is None:
            empty = keys.new_empty(0, keys.shape[1], self._longest, keys.shape[3])
            self._layers[number] = _Layer(keys, values, empty, empty)
        else:
            layer.prefix_keys = _stacked(layer.prefix_keys, keys)
            layer.prefix_values = _stacked(layer.prefix_values, values)

    def _roomier(self, states: Tensor, rows: int) -> Tensor:
        room = states.new_empty(rows, *states.shape[1:])
        room[: len(states), :, : self.clock] = states[:, :, : self.clock]
        return room

    def _arrange(self) -> None:
        """Slots [N, n] for the rows of each group side by side, n the most rows that any group has."""
        groups, rows = len(self.lengths), len(self.group)
        if not groups:
            return
        sizes = torch.bincount(self.group, minlength=groups)
        self._width = int(sizes.max())
        first = sizes.cumsum(0) - sizes
        within = torch.arange(rows, device=self.group.device) - first[self.group]
        # No index where every slot is taken: then rows and slots are the same.
        full = rows == groups * self._width
        self._slot = None if full else self.group * self._width + within
        self._even = self._stride == 1 and not bool(self.born.any())
        longest = self._longest_prompt = self._front or int(self.lengths.max())
        self._ragged = bool((self.lengths < longest).any())
        for layer in self._layers.values():
            layer.prefix_keys = layer.prefix_keys[:, :, :longest]
            layer.prefix_values = layer.prefix_values[:, :, :longest]
        if self._complete and self._width == 1 and not self._front:
            self._bring_prompts_over()
        if self._front and self._ragged == self._even:  # one part has one bias
            self._ragged, self._even = True, False
        self._reshape()

    def _reshape(self) -> None:
        """Of rows, prompts or columns there is another number."""
        self.shape += 1
        self._biases.clear()
        self._column.fill_(self._front + self.clock)
        self._now = min((self.clock // self._stride + 1) * self._stride, self._longest)
        if self._stride > 1:
            ahead = slice(self._front + self.clock, self._front + self._now)
            for layer in self._layers.values():  # masked, but no weight times fresh memory may be NaN
                layer.keys[: len(self.group), :, ahead] = layer.values[: len(self.group), :, ahead] = 0

    def _bring_prompts_over(self) -> None:
        """Prompts and rows are in the same order: each prompt has one."""
        self._front = self._longest_prompt
        for layer in self._layers.values():
            layer.keys = self._behind(layer.prefix_keys, layer.keys)
            layer.values = self._behind(layer.prefix_values, layer.values)
            layer.prefix_keys = layer.prefix_values = layer.keys[:0]

    def _behind(self, prompts: Tensor, own: Tensor) -> Tensor:
        """[B, H, P + T, D], the own columns filled up to the clock."""
        rows, heads, longest, width = prompts.shape
        both = prompts.new_empty(rows, heads, longest + self._longest, width)
        both[:, :, :longest] = prompts
        both[:, :, longest : longest + self.clock] = own[:rows, :, : self.clock]
        return both

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> Tensor:
        """See `kernels.attention.Layout`. What is shared, the prompts and the rows' own are merged exactly."""
        store, rows, end = self._layers[layer], len(self.group), self._front + self._now
        heads, repeats, width = key.shape[1], query.shape[1] // key.shape[1], query.shape[-1]
        window = scoring.window
        if window is not None and self._shared_tokens + self._longest_prompt + self._now <= window:
            window = None
        sort = window, repeats, query.dtype
        if sort not in self._biases:
            self._biases[sort] = self._unseen(*sort)
        biases = self._biases[sort]

        keys, values = store.keys[:rows, :, :end], store.values[:rows, :, :end]
        self._write(keys, key)
        self._write(values, value)
        asking = query[0].transpose(0, 1).reshape(rows, heads, repeats, width)
        own = asking, keys, values, biases.own
        if self._front and self._shared is None:
            return undivided_attention(*own, scoring).reshape(1, rows, -1, width)
        on = partial(attention, scoring=scoring)
        parts = [on(*own)]
        if not self._front:
            out, log = on(self._to_slots(asking), store.prefix_keys, store.prefix_values, biases.prompt)
            parts.append((self._from_slots(out, repeats), self._from_slots(log[..., None], repeats)[..., 0]))
        if self._shared is not None:
            # All rows ask the same keys: one block of queries.
            out, log = on(query.reshape(1, heads, -1, width), *self._shared.layers[layer], biases.shared)
            out, log = out.view(heads, repeats, rows, width), log.view(heads, repeats, rows)
            parts.append((out.permute(2, 0, 1, 3), log.permute(2, 0, 1)))
        return merged(parts).reshape(1, rows, -1, width)

    def _write(self, columns: Tensor, new: Tensor) -> None:
        """Keys or values [1, H, B, D] of the new tokens into their column of [B, H, columns, D]."""
        if self._stride == 1:  # the last; in a third of the time on a CPU
            columns[:, :, -1] = new[0].transpose(0, 1)
        else:
            columns.index_copy_(2, self._column, new.transpose(0, 2))

    def _unseen(self, window: int | None, repeats: int, dtype: torch.dtype) -> _Biases:
        """What is padding, another row's column or one to come, or lies out of the window's reach."""
        device = self.group.device
        columns = torch.arange(self._now, device=device)
        steps = torch.arange(self._longest_prompt, device=device)
        padding = steps >= self.lengths[:, None]  # [N, P]
        other = (columns < self.born[:, None]) | (columns > self.clock)  # [B, now]
        shared: Tensor | None = None
        if window is None:
            prompt = unseen(padding, dtype)[:, None, None] if self._ragged else None
            own = None if self._even else unseen(other, dtype)[:, None, None]
        else:
            last = (self.positions - window)[:, None]  # [B, 1] position that is just out of reach
            before = torch.arange(self._shared_tokens, device=device) <= last  # [B, S]
            shared = unseen(before, dtype).repeat(repeats, 1)[None, None]
            far = padding[self.group] | (self._shared_tokens + steps <= last)  # [B, P]
            prompt = self._to_slots(unseen(far, dtype)[:, None, None].repeat(1, 1, repeats, 1))
            own = unseen(other | (columns <= self.clock - window), dtype)[:, None, None]
        if self._front and prompt is not None and own is not None:
            own, prompt = torch.cat([prompt[:, :, :1], own], -1), None
        return _Biases(shared, prompt, own)

    def _to_slots(self, rows: Tensor) -> Tensor:
        """[B, H, R, ·] as [N, H, n R, ·]; empty slots are zero."""
        shape = rows.shape[1:]
        if self._slot is not None:
            rows = rows.new_zeros(len(self.lengths) * self._width, *shape).index_copy_(0, self._slot, rows)
        heads, repeats, width = shape
        slots = rows.reshape(-1, self._width, heads, repeats, width).transpose(1, 2)
        return slots.reshape(-1, heads, self._width * repeats, width)

    def _from_slots(self, slots: Tensor, repeats: int) -> Tensor:
        """[N, H, n R, ·] as [B, H, R, ·]."""
        _, heads, _, width = slots.shape
        rows = slots.reshape(-1, heads, self._width, repeats, width).transpose(1, 2)
        rows = rows.reshape(-1, heads, repeats, width)
        return rows if self._slot is None else rows.index_select(0, self._slot)


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    """[N, H, P, D] and [n, H, p, D] as one, the shorter padded with zeros."""
    count, heads, longest, width = first.shape
    both = first.new_zeros(count + len(second), heads, max(longest, second.shape[2]), width)
    both[:count, :, :longest], both[count:, :, : second.shape[2]] = first, second
    return both
