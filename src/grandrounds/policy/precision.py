"""The type in which weights are stored and computed with. On a CPU it is measured for large models.

A processor with few units for bfloat16 multiplies faster in float32, but reads bfloat16 weights in half the time.
Decoding mostly reads weights, updating mostly multiplies. Which type is faster depends on the model's width, on how
many completions decode together, and on the machine. So a few products of the model's own shapes are timed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from grandrounds.kernels.products import linear, packed
from grandrounds.recipe import PolicyRecipe, Recipe

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
# Models with fewer weights stay in float32: they fit into the CPU's caches, and exact results are easier to trust.
LARGE = 50_000_000
# The largest share of float32's time at which bfloat16 is chosen, since it has 8 bits of mantissa and float32 has 24.
WORTH = 0.9
# Weights read by a timing of decoding: more bytes than the caches hold, even on large servers.
COLD_BYTES = 512 * 2**20
UPDATE_ROWS = 256  # tokens of a product in the update; with more, each token is hardly faster
TRIAL, HOPELESS = 256, 8  # width of the trial product; how many times float32's time bfloat16 may take for it
SECONDS = 0.1  # of processor time for each timing, or a single product if that takes longer


@dataclass(frozen=True)
class Mix:
    """The work of one round of GRPO.

    rows: completions that decode together. passes: the update's matrix products for each decoded token, counted in
    forward passes.
    """

    rows: int = 64
    passes: int = 2


@dataclass(frozen=True)
class Width:
    """A decoder, in the numbers that determine the shapes of its matrix products."""

    hidden: int
    feedforward: int
    layers: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """About how many weights there are: four matrices of attention and three of a gated feed-forward block."""
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.feedforward
        return self.layers * layer + self.vocabulary * self.hidden

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of each kind of matrix in a layer."""
        return (self.hidden, self.hidden), (self.feedforward, self.hidden), (self.hidden, self.feedforward)


def mix_of(recipe: Recipe) -> Mix:
    """The work of a round, without prompts. A token takes a forward pass and the gradients of the states, and the
    gradients of the weights where all of them are trained."""
    grpo = recipe.grpo
    passes = 3 if recipe.policy.adapter == "full" else 2
    return Mix(grpo.cases_per_round * grpo.group_size, passes * grpo.iterations)


def choose_precision(
    recipe: PolicyRecipe,
    device: torch.device,
    config: Callable[[], Any] | None = None,
    mix: Mix | None = None,
) -> tuple[torch.dtype, str]:
    """The weights' type on a device, and the reason. config: reads the model's configuration, or None to measure
    nothing."""
    if recipe.precision != "auto":
        return PRECISIONS[recipe.precision], "as the recipe says"
    if recipe.quantize == "4bit":
        return torch.bfloat16, "what 4-bit weights are unpacked to"
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16, "the GPU computes in it"
    if device.type != "cpu" or config is None:
        return torch.float32, "exact"
    width = width_of(config())
    if width.weights < LARGE:
        return torch.float32, "exact, and no slower for a small model"
    share = bfloat16_share(width, mix or Mix(), torch.get_num_threads())
    if share < WORTH:
        return torch.bfloat16, f"measured: {share:.2f} of float32's time here"
    return torch.float32, f"measured: bfloat16 would take {share:.2f} of its time here"


def width_of(config: Any) -> Width:
    """The width of a model, from its transformers configuration."""
    text = config.get_text_config()
    feedforward = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return Width(text.hidden_size, feedforward, text.num_hidden_layers, text.vocab_size)


@cache
def bfloat16_share(width: Width, mix: Mix, threads: int) -> float:
    """A round's time in bfloat16 divided by its time in float32, for matrix products alone. Measured once per process.

    threads: the number of threads that torch uses. Each number is measured separately.
    """
    exact, short = torch.float32, torch.bfloat16
    # Where the processor emulates bfloat16, the real products would take minutes.
    trial = ((TRIAL, TRIAL),)
    ratio = seconds(short, trial, TRIAL) / seconds(exact, trial, TRIAL)
    if ratio > HOPELESS:
        return ratio
    return _token(short, width, mix) / _token(exact, width, mix)


def _token(dtype: torch.dtype, width: Width, mix: Mix) -> float:
    """Seconds that a layer takes to decode one token of a round and to learn from it."""
    rows = min(mix.rows, UPDATE_ROWS)
    decoded = seconds(dtype, width.products, rows) / rows
    return decoded + mix.passes * seconds(dtype, width.products, UPDATE_ROWS) / UPDATE_ROWS


def seconds(dtype: torch.dtype, products: tuple[tuple[int, int], ...], rows: int) -> float:
    """The time of these products with `rows` tokens; the fastest of several runs.

    With few rows weights are read from memory, as in decoding: there are so many copies that no cache holds them.
    """
    size = sum(outputs * inputs for outputs, inputs in products) * dtype.itemsize
    copies = -(-COLD_BYTES // size) if rows < UPDATE_ROWS else 1
    layers = [[_filled(shape, dtype) for shape in products] for _ in range(copies)]
    if rows < UPDATE_ROWS:  # packed, as in sampling
        layers = [[packed(weight) for weight in layer] for layer in layers]
    states = {inputs: _filled((rows, inputs), dtype) for _, inputs in products}

    def run() -> None:
        for layer in layers:
            for weight in layer:
                linear(states[weight.shape[1]], weight)

    return _fastest(run) / copies


def _filled(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """Filled with a number: a processor need not read memory that was never written."""
    return torch.full(shape, 0.01, dtype=dtype)


def _fastest(run: Callable[[], None]) -> float:
    """The fastest run, in processor time, so that other programs on the machine do not distort it."""
    begun, best = time.process_time(), float("inf")
    while best == float("inf") or time.process_time() - begun < SECONDS:
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best
