"""A decoding step captured in a CUDA graph, and replayed while the batch's shape stays the same.

A model's forward pass is about a thousand small kernels, which Python launches one by one. For a few rows the launches
take longer than the arithmetic. A graph launches all of them at once, on the same memory each time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

# Where steps are captured, attention reads the KV cache up to a multiple of this many columns. A small stride needs a
# new graph every few steps; a large stride makes attention read columns that are still empty.
STRIDE = 64

Compute = Callable[[], Tensor]
# Captures a function. The captured one does the same operations on the same memory, and returns the same tensor.
Capture = Callable[[Compute], Compute]


class Step:
    """Computes the hidden states [B, d] of B rows' newest tokens [B] at their positions [B].

    compute: computes one step. capture: captures it, or None to compute each step eagerly. With a capture, the first
    step of a shape is computed, the second is captured, and the others replay it. A replayed step overwrites the
    states of the step before.
    """

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor], capture: Capture | None) -> None:
        self._compute, self._capture = compute, capture
        self._shape = -1
        self._tokens = self._positions = torch.empty(0)
        self._replay: Compute | None = None

    def __call__(self, tokens: Tensor, positions: Tensor, shape: int) -> Tensor:
        """shape: a number that must differ wherever two steps differ by more than the values in their tensors."""
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

    def _captured(self, capture: Capture) -> Compute:
        try:
            return capture(self._run)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that a CUDA graph cannot hold
            reason = " ".join(str(error).split())
            warnings.warn(
                f"decoding steps cannot be captured here, and take longer ({reason[:200]})", stacklevel=2
            )
            self._capture = None
            return self._run


def cuda_graph(run: Compute) -> Compute:
    """A CUDA graph of the function. The graph has its own memory, which is freed with it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # rewards may use CUDA in other threads
        states = run()

    def replay() -> Tensor:
        graph.replay()
        return states

    return replay


def capture_on(device: torch.device) -> Capture | None:
    """The capture function for a device; None where steps are not captured."""
    return cuda_graph if device.type == "cuda" else None
