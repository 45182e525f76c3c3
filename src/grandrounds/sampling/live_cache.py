"""The KV cache of rows that join and leave at any step.

Each row has its prompt and its own tokens from column 0 on, so that a row's place and the rows beside it mean nothing
to it. `kv_cache.KVCache` is for completions that are all known when decoding begins: there a prompt is stored once for
its whole group, and every row writes the same column.

Shapes: B rows, L columns that attention covers, H key-value heads, R query heads for each, D numbers per head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix.merge import additive_mask, attention_output
from grandrounds.sampling.prefill import Prefixes

# Memory is taken for a multiple of so many rows and columns, so that few joining rows move those that are there.
ROWS, COLUMNS = 8, 64


class LiveCache:
    """Keys and values of B rows by layer. What no row uses is zero: nothing is left of a row that has gone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rows = 0  # B
        self._layers: dict[int, list[Tensor]] = {}  # keys and values, [B or more, H, L or more, D]
        self._at = torch.empty(
            0, dtype=torch.int64, device=device
        )  # [B], the column of each row's newest token
        self._columns = 0  # L
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}  # by window, of this step

    def join(self, prefixes: Prefixes, copies: int, columns: int) -> None:
        """Add rows that begin with this one prompt. columns: that any row may come to need, as far as is known."""
        first, self._rows = self._rows, self._rows + copies
        for number, computed in prefixes.layers.items():
            layer = self._layers.setdefault(
                number, [states.new_empty(0, *states.shape[1:]) for states in computed]
            )
            for place, states in enumerate(computed):
                if len(layer[place]) < self._rows or layer[place].shape[2] < columns:
                    layer[place] = _sized(
                        layer[place], first, rounded(self._rows, ROWS), rounded(columns, COLUMNS)
                    )
                layer[place][first : self._rows, :, : states.shape[2]] = states

    def drop(self, row: int) -> None:
        """Remove a row. The last row takes its place."""
        self._rows -= 1
        for layer in self._layers.values():
            for states in layer:
                states[row] = states[self._rows]
                states[self._rows] = 0
        if not self._rows:
            self._layers.clear()

    def place(self, lengths: Tensor) -> Tensor:
        """Begin a step. lengths: [B], the tokens of each row that attention sees before the one that is fed; what a row
        had behind them is overwritten. Returns the positions of the fed tokens, [B]."""
        self._at, self._columns = lengths, int(lengths.max()) + 1
        self._masks.clear()
        return lengths

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> Tensor:
        """See `kernels.attention.Layout`."""
        rows, heads, width = self._rows, key.shape[1], query.shape[-1]
        every = torch.arange(rows, device=self._device)
        for states, new in zip(self._layers[layer], (key, value), strict=True):
            states[every, :, self._at] = new[0].transpose(0, 1)
        keys, values = (states[:rows, :, : self._columns] for states in self._layers[layer])
        queries = query[0].transpose(0, 1).reshape(rows, heads, -1, width)
        mask = self._mask(rule.window, query.dtype)
        return attention_output(queries, keys, values, mask, rule).reshape(1, rows, -1, width)

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[B, 1, 1, L]: what is behind a row's newest token, and what its window leaves out."""
        if (window, dtype) not in self._masks:
            columns, newest = torch.arange(self._columns, device=self._device), self._at[:, None]
            masked = columns > newest
            if window is not None:
                masked |= columns <= newest - window
            self._masks[window, dtype] = additive_mask(masked, dtype)[:, None, None]
        return self._masks[window, dtype]


def rounded(count: int, step: int) -> int:
    """The next multiple of the step."""
    return -(-count // step) * step


def _sized(states: Tensor, rows: int, most: int, columns: int) -> Tensor:
    """The first rows and as many columns as fit, in a tensor of another size. The rest is zero: masked keys get no
    weight, but no weight times uninitialised memory may be NaN."""
    sized = states.new_zeros(most, states.shape[1], columns, states.shape[3])
    kept = min(columns, states.shape[2])
    sized[:rows, :, :kept] = states[:rows, :, :kept]
    return sized
