"""A decoding step: one more token of each row through the model. On a GPU recorded once and replayed.

A model's forward pass is a thousand small kernels, which Python launches one by one; for a few rows that takes longer
than their arithmetic. As long as a batch's shape stays the same the pass is the same on the same memory, and a CUDA
graph launches all of it at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.store import DecodeLayout

# Columns of the store by which attention grows where steps are recorded: with few a recording serves for few steps,
# with many attention goes over columns that nothing is in yet.
STRIDE = 64

Pass = Callable[[], Tensor]
# Makes of a pass one that does the same operations on the same memory again and puts out the same tensor. The pass need
# not be run by that.
Recorder = Callable[[Pass], Pass]


class DecodeStep:
    """Computes states behind the rows' newest tokens.

    record: None computes each step as it comes. Otherwise the first step of a shape does, and the others replay the
    second; what a step puts out is then overwritten by the next.
    """

    def __init__(self, policy: Policy, layout: DecodeLayout, record: Recorder | None) -> None:
        self._policy, self._layout, self._record = policy, layout, record
        self._shape = -1
        self._tokens = self._positions = torch.empty(0)
        self._replay: Pass | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """States [B, d] of tokens int64 [B] at the layout's positions."""
        if self._record is None or self._shape != self._layout.shape:
            self._shape, self._replay = self._layout.shape, None
            self._tokens, self._positions = tokens.clone(), self._layout.positions
            return self._run()
        self._tokens.copy_(tokens)
        self._positions.copy_(self._layout.positions)
        if self._replay is None:
            self._replay = self._recorded(self._record)
        return self._replay()

    def _run(self) -> Tensor:
        return self._policy.hidden(self._tokens[None], self._positions[None], self._layout)

    def _recorded(self, record: Recorder) -> Pass:
        try:
            return record(self._run)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that a graph cannot hold
            reason = " ".join(str(error).split())
            warnings.warn(
                f"decoding steps cannot be recorded here, and take longer ({reason[:200]})", stacklevel=2
            )
            self._record = None
            return self._run


def cuda_graph(run: Pass) -> Pass:
    """Recorded by CUDA. The graph's memory is its own, and is free again with it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(
        graph, capture_error_mode="thread_local"
    ):  # rewards may be at work in other threads
        states = run()

    def replay() -> Tensor:
        graph.replay()
        return states

    return replay


def recorder(device: torch.device) -> Recorder | None:
    """How steps are recorded on a device; None where they are not."""
    return cuda_graph if device.type == "cuda" else None
