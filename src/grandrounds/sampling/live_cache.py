"""The KV cache of rows that join and leave at any step.

Each row has its prompt and its own tokens from column 0 on, so that a row's place and the rows beside it mean nothing
to it. Columns are computed in blocks of fixed size, and masked ones have no weight: on a CPU a row's states are the
same to the last bit whatever is beside it. `kv_cache.KVCache` is for completions that are all known when decoding
begins: there a prompt is stored once for its whole group, and every row writes the same column.

Shapes: B rows, b of them in a pass, L columns that attention covers, H key-value heads, R query heads for each,
D numbers per head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix.merge import Part, additive_mask, merged, scores_and_shares
from grandrounds.sampling.prefill import Prefixes

# Columns that are multiplied together. With more, libraries sum in parts whose sizes depend on how many there are.
BLOCK = 256
# Memory is taken for a multiple of so many rows and columns, so that few joining rows move those that are there.
# Attention covers a multiple of so many columns too: vectors are always full.
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
        self._columns = 0
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}  # by window, of this pass

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

    def place(self, first: int, lengths: Tensor) -> None:
        """Begin a pass over the rows from `first` on. lengths: [b], the tokens of each before the one that is fed. What
        a row had behind them is overwritten."""
        self._first, self._at = first, lengths
        self._columns = rounded(int(lengths.max()) + 1, COLUMNS)
        self._masks.clear()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> Tensor:
        """See `kernels.attention.Layout`. Further rows, which only fill the pass up, attend to nothing."""
        rows, heads, width = len(self._at), key.shape[1], query.shape[-1]
        of_pass = torch.arange(self._first, self._first + rows, device=self._device)
        for states, new in zip(self._layers[layer], (key, value), strict=True):
            states[of_pass, :, self._at] = new[0, :, :rows].transpose(0, 1)
        keys, values = (states[self._first : self._first + rows] for states in self._layers[layer])
        queries = query[0, :, :rows].transpose(0, 1).reshape(rows, heads, -1, width)
        mask = self._mask(rule.window, query.dtype)
        parts = (
            _part(queries, keys[:, :, block], values[:, :, block], mask[..., block], rule)
            for block in (slice(at, min(at + BLOCK, self._columns)) for at in range(0, self._columns, BLOCK))
        )
        out = merged(parts).reshape(1, rows, -1, width)
        return F.pad(out, (0, 0, 0, 0, 0, query.shape[2] - rows))

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[b, 1, 1, L]: what is behind a row's newest token, and what its window leaves out."""
        if (window, dtype) not in self._masks:
            columns, newest = torch.arange(self._columns, device=self._device), self._at[:, None]
            masked = columns > newest
            if window is not None:
                masked |= columns <= newest - window
            self._masks[window, dtype] = additive_mask(masked, dtype)[:, None, None]
        return self._masks[window, dtype]


def _part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, rule: AttentionRule) -> Part:
    """As `merge.attention`, by the same products for any number of rows. On a CPU the log-sum-exp is in float64: in
    float32 its last bit, and that of its sigmoid, depend on whether a number is the last of a vector's length."""
    scores, shares = scores_and_shares(query, key, mask, rule)
    precise = torch.float64 if query.device.type == "cpu" else torch.float32
    log = scores.amax(-1).to(precise) - shares.amax(-1).to(precise).log()
    return shares.to(value.dtype) @ value, log


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
