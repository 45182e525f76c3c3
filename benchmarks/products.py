"""One linear layer: torch's own, ours with plain weights (the update's) and with packed ones (sampling's), GFLOP/s.

    python benchmarks/products.py
    python benchmarks/products.py --rows 16 64 --precision float32 --threads 2

The weights are those of the 6M model's and Qwen2-0.5B's feed-forward layers and of the latter's head, enough of them in
turn that a large one is no longer in a cache. The best of several tries, by the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.kernels.products import linear, packed

SHAPES = ((1024, 256), (4864, 896), (896, 4864), (151_936, 896))
BYTES = 400 * 2**20  # of weights in turn
TRIES = 7


def main() -> None:
    """One line for each precision, shape and number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 4, 8, 16, 64, 512, 2048])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for precision in arguments.precision:
        for shape in SHAPES:
            plain = _copies(torch.randn(shape).to(getattr(torch, precision)))
            pack = [packed(weight) for weight in plain]
            for rows in arguments.rows:
                states = torch.randn(rows, shape[1]).to(plain[0].dtype)
                rates = [rate(states, *way) for way in ((F.linear, plain), (linear, plain), (linear, pack))]
                told = ", ".join(f"{value:.0f}" for value in rates)
                print(f"{precision} {shape[0]} x {shape[1]}, {rows} rows: {told}", flush=True)


def _copies(weight: Tensor) -> list[Tensor]:
    size = weight.numel() * weight.element_size()
    return [weight.clone() for _ in range(max(1, min(64, BYTES // size)))]


@torch.inference_mode()
def rate(states: Tensor, multiply: Callable[[Tensor, Tensor], Tensor], weights: list[Tensor]) -> float:
    """GFLOP/s of the fastest pass over all weights."""
    fastest = float("inf")
    for _ in range(TRIES):
        started = time.perf_counter()
        for weight in weights:
            multiply(states, weight)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * states.numel() * sum(weight.shape[0] for weight in weights) / fastest / 1e9


if __name__ == "__main__":
    main()
