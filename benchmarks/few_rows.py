"""Few rows by large weights: torch's linear layer beside the sampler's product, processor milliseconds, best tries.

    python benchmarks/few_rows.py
    python benchmarks/few_rows.py --rows 8 16 --precision float32

The weights are those of Qwen2-0.5B's feed-forward layers and head, enough of them in turn that none is still in a
cache. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.sampling.few_rows import product

SHAPES = ((4864, 896), (896, 4864), (151_936, 896))
BYTES = 600 * 2**20  # of weights in turn
TRIES = 16


def main() -> None:
    """One line for each precision, shape and number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 4, 8, 12, 16, 24, 32])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for precision in arguments.precision:
        for shape in SHAPES:
            made = torch.randn(shape).to(getattr(torch, precision))
            weights = [made.clone() for _ in range(max(1, BYTES // (made.numel() * made.element_size())))]
            for rows in arguments.rows:
                states = torch.randn(rows, shape[1]).to(made.dtype)
                linear, ours = best(states, weights, F.linear, product)
                print(
                    f"{precision} {shape[0]} x {shape[1]}, {rows} rows: linear {linear:.2f}, ours {ours:.2f} ms"
                )


@torch.inference_mode()
def best(states: Tensor, weights: list[Tensor], *products: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """Milliseconds of each product, taken in turn."""
    times = [float("inf")] * len(products)
    for number in range(TRIES):
        for index, multiply in enumerate(products):
            weight = weights[(number * len(products) + index) % len(weights)]
            started = time.process_time()
            multiply(states, weight)
            times[index] = min(times[index], 1e3 * (time.process_time() - started))
    return times


if __name__ == "__main__":
    main()
