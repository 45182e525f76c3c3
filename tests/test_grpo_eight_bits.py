"""Numbers in 8 bits are the nearest that the dynamic map of 8-bit optimizers has, block by block."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from grandrounds.algorithm.eight_bits import BLOCK, dequantise, dynamic_map, quantise

SIGNS = pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])


def plain_map(signed: bool) -> np.ndarray:
    """The map written down number by number, float64: of each decade below 1, the middles of its equal parts."""
    entries = [0.0, 1.0]
    for exponent in range(7):
        top = 10.0 ** (exponent - 6)
        parts = 2**exponent * (1 if signed else 2)
        for part in range(parts):
            low, high = (top / 10 + share / parts * (top - top / 10) for share in (part, part + 1))
            entries += [(low + high) / 2, *([-(low + high) / 2] if signed else [])]
    return np.array(sorted(entries))


def plain_quantised(values: np.ndarray, signed: bool) -> np.ndarray:
    """What each number becomes, float64: the nearest entry of its block's map."""
    entries, out = plain_map(signed), []
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK].astype(np.float64)
        scale = np.abs(block).max()
        there = entries if signed else entries[1:]
        for value in block:
            if scale == 0 or (value == 0 and not signed):
                out.append(0.0)
            else:
                out.append(scale * there[np.abs(there - value / scale).argmin()])
    return np.array(out)


@SIGNS
def test_the_map_is_the_papers(signed: bool) -> None:
    entries = dynamic_map(signed)
    assert len(entries) == len(set(entries.tolist())) == 256
    np.testing.assert_allclose(entries.numpy(), plain_map(signed), rtol=1e-6)
    smallest = 0.55e-6 if signed else 0.325e-6
    assert float(entries[entries > 0].min()) == pytest.approx(smallest)


magnitudes = st.floats(1, 10, width=32).flatmap(
    lambda digits: st.integers(-36, 37).map(lambda exponent: float(np.float32(digits * 10.0**exponent)))
)
numbers = st.one_of(st.just(0.0), st.floats(-1, 1, width=32), magnitudes, magnitudes.map(lambda x: -x))


@SIGNS
@given(
    values=st.lists(numbers, min_size=1, max_size=12),
    size=st.integers(1, 2 * BLOCK + 5),
    zeros=st.booleans(),
)
@example(values=[0.0], size=BLOCK + 1, zeros=False)
@example(values=[1e-45, 3e-39], size=3, zeros=False)
@example(values=[3.4e38, -3.4e38, 1e-38], size=2 * BLOCK, zeros=True)
def test_each_number_becomes_the_nearest_of_its_blocks(
    signed: bool, values: list[float], size: int, zeros: bool
) -> None:
    given_values = np.resize(np.array(values, np.float32), size)
    if zeros:
        given_values[:BLOCK] = 0  # a first block of nothing
    if not signed:
        given_values = np.abs(given_values)
    codes, scales = quantise(torch.from_numpy(given_values.copy()), signed=signed)
    assert (codes.dtype, codes.shape) == (torch.uint8, (size,))
    assert (scales.dtype, scales.shape) == (torch.float32, (math.ceil(size / BLOCK),))
    found = dequantise(codes, scales, signed=signed).numpy().astype(np.float64)
    best = plain_quantised(given_values, signed)
    scale = np.repeat(scales.numpy().astype(np.float64), BLOCK)[:size]
    # As near as the nearest, up to float32's rounding: two entries may be equally near.
    allowed = np.abs(best - given_values) + 3e-7 * scale + 1e-44
    assert (np.abs(found - given_values) <= allowed).all()
    assert np.isfinite(found).all()
    if not signed:
        assert ((found > 0) | (given_values == 0) | (found < 1e-44)).all()
        assert (found[given_values == 0] == 0).all()


@SIGNS
def test_errors_are_bounded_decade_by_decade(signed: bool) -> None:
    for exponent in range(7):
        values = torch.linspace(0.1, 1, 1000) * 10.0 ** (exponent - 6)
        blocks = torch.cat([torch.cat([part, part.new_ones(1)]) for part in values.split(BLOCK - 1)])
        codes, scales = quantise(blocks, signed=signed)
        worst = (dequantise(codes, scales, signed=signed) - blocks).abs().max() * 10.0 ** (6 - exponent)
        parts = 2**exponent * (1 if signed else 2)
        assert worst <= 0.9 / parts / 2 + 1e-6  # half a part of the decade


@SIGNS
def test_what_was_quantised_stays_as_it_is(signed: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(1000).exp()
    once = dequantise(*quantise(values, signed=signed), signed=signed)
    assert torch.equal(dequantise(*quantise(once, signed=signed), signed=signed), once)


def test_the_largest_of_each_block_is_kept_as_it_is() -> None:
    torch.manual_seed(0)
    values = torch.rand(1000)
    kept = dequantise(*quantise(values, signed=False), signed=False)
    for before, after in zip(values.split(BLOCK), kept.split(BLOCK), strict=True):
        assert after[before.argmax()] == before.max()
