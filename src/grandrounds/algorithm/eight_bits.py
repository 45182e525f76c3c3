"""Numbers in 8 bits, block by block: the dynamic map of Dettmers et al. 2021 (arXiv:2110.02861).

A block's numbers are divided by the largest magnitude among them, the block's scale. Each number is stored as the code
of the nearest entry of one fixed map. The map covers seven decades, from 1 down to a ten-millionth. Each decade has
half as many entries as the one above: large numbers keep two digits, small ones their order of magnitude.

Shapes: n numbers in ceil(n / 256) blocks; the last block may be shorter.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 256
DECADES = 7


def dynamic_map(signed: bool) -> Tensor:
    """The 256 entries in ascending order, float32, from -1 (signed) or 0 (unsigned) to 1.

    Decade d = 0 … 6 runs from 10^(d - 7) to 10^(d - 6). It is cut into 2^d equal parts, or into twice as many for
    unsigned numbers. The entries are the middles of the parts, for signed numbers with both signs, and also 0 and 1.
    """
    middles = []
    for decade in range(DECADES):
        parts = 2 ** (decade if signed else decade + 1)
        shares = (torch.arange(parts, dtype=torch.float64) + 0.5) / parts
        middles.append((0.1 + 0.9 * shares) * 10.0 ** (decade + 1 - DECADES))
    positive = torch.cat(middles)
    negative = -positive.flip(0) if signed else positive[:0]
    return torch.cat([negative, positive.new_zeros(1), positive, positive.new_ones(1)]).float()


def quantise(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """(codes uint8 [n], scales float32 [blocks]) of finite float32 values [n]. Unsigned values must not be negative.

    Each number gets the code of the nearest entry, but a positive unsigned number never becomes 0. AdamW divides by the
    square root of such numbers: with a 0, a weight could jump.
    """
    _, borders = _tables(signed, values.device)
    blocks = F.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    shares = blocks / scales.masked_fill(scales == 0, 1)[:, None]
    codes = torch.bucketize(shares, borders, out_int32=True)
    return codes.view(-1)[: len(values)].to(torch.uint8), scales


def dequantise(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """The float32 numbers [n] for codes uint8 [n] and scales float32 [blocks]."""
    entries, _ = _tables(signed, codes.device)
    shares = entries.index_select(0, codes.int())
    return shares.mul_(scales.repeat_interleave(BLOCK)[: len(codes)])


@cache
def _tables(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The map [256] and the borders [255] between neighbouring entries, on the device."""
    entries = dynamic_map(signed)
    borders = (entries[:-1] + entries[1:]) / 2
    if not signed:
        borders[0] = 0
    return entries.to(device), borders.to(device)
