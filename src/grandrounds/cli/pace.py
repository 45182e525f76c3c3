"""How fast this machine is, before anything was seen of it."""

from __future__ import annotations

import time

# Of the product that is timed: rows as in an update, a layer's width.
ROWS, SIZE = 512, 512
MEASURED = 0.5  # seconds


def pace_of_products(reference: float) -> float:
    """How many times as long this machine takes for products in float32 as one with `reference` GFLOP/s."""
    import torch

    from grandrounds.kernels.products import linear, packed

    states, weight, best = torch.ones(ROWS, SIZE), packed(torch.ones(SIZE, SIZE)), float("inf")
    until = time.perf_counter() + MEASURED
    while (began := time.perf_counter()) < until:
        linear(states, weight)
        best = min(best, time.perf_counter() - began)
    return reference / (2 * ROWS * SIZE * SIZE / best / 1e9)
