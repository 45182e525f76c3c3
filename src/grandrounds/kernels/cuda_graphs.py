"""A decoding step captured in a CUDA graph and replayed, as long as the batch's shape stays the same.

A model's forward pass is a thousand small kernels, which Python launches one by one; for a few rows that takes longer
than their arithmetic. A graph launches all of them at once, on the same memory each time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

# Columns of the KV cache by which attention grows where steps are captured: with few a graph serves for few steps, with
# many attention goes over columns that nothing is in yet.
STRIDE = 64

Run = Callable[[], Tensor]
# Captures a function: what it returns does the same operations on the same memory, and returns the same tensor.
Capture = Callable[[Run], Run]


class Step:
    """States [B, d] of B rows' newest tokens [B] at their positions [B].

    compute: a step. capture: None computes each step as it comes. Otherwise the first step of a shape is computed, the
    second is captured, and the others replay it; a step's states are then overwritten by the next.
    """

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor], capture: Capture | None) -> None:
        self._compute, self._capture = compute, capture
        self._shape = -1
        self._tokens = self._positions = torch.empty(0)
        self._replay: Run | None = None

    def __call__(self, tokens: Tensor, positions: Tensor, shape: int) -> Tensor:
        """shape: another number wherever steps differ by more than the values in tensors."""
        if self._capture is None or self._shape != shape:
            self._shape, self._replay = shape, None
            self._tokens, self._positions = tokens.clone(), positions
            return self._run()
        self._tokens.copy_(tokens)
        self._positions.copy_(positions)
        if self._replay is None:
            self._replay = self._captured(self._capture)
        return self._replay()

    def _run(self) -> Tensor:
        return self._compute(self._tokens, self._positions)

    def _captured(self, capture: Capture) -> Run:
        try:
            return capture(self._run)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that a graph cannot hold
            reason = " ".join(str(error).split())
            warnings.warn(
                f"decoding steps cannot be captured here, and take longer ({reason[:200]})", stacklevel=2
            )
            self._capture = None
            return self._run


def cuda_graph(run: Run) -> Run:
    """Captured by CUDA. The graph's memory is its own, and is free again with it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(
        graph, capture_error_mode="thread_local"
    ):  # rewards may be at work in other threads
        states = run()

    def replay() -> Tensor:
        graph.replay()
        return states

    return replay


def capture_on(device: torch.device) -> Capture | None:
    """How steps are captured on a device; None where they are not."""
    return cuda_graph if device.type == "cuda" else None
