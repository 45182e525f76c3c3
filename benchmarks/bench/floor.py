"""The arithmetic floor: operations and bytes that no implementation of a workload can do without.

Counted in the plain way: a multiplication and an addition are two operations. With W weights in the layers' matrices,
V·d in the head (V vocabulary, d width), prompts of P tokens and completions of T:

    a token through the layers            2 W
    a token through the head              2 V d              completion tokens only
    one query on one key, all layers      4 L Hq D           L layers, Hq query heads of D numbers: scores and sum
    queries on keys                       P (P + 1) / 2      of a prompt
                                          T P + T (T + 1)/2  of a completion behind it: the triangle, not the square
    LoRA of rank r on a matrix [m, n]     2 r (m + n)        per token
    backward, weights trained             2 × forward        gradients of inputs and of weights
    backward, weights frozen              1 × forward        gradients of inputs
    backward of attention, LoRA           2 × forward

A prompt is computed once for its group. Softmaxes, norms, activations and the optimizer's few operations per weight
are left out: they are small, and bound by memory. Nothing is counted twice: recomputing is not useful work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.workloads import FULL, LORA, NO_ADAPTER, Shape, Workload, lengths

BYTES = {"float32": 4, "bfloat16": 2}
ADAPTER_BYTES = 4  # PEFT keeps adapters in float32 whatever the model's precision


@dataclass(frozen=True)
class Floor:
    """Of one GRPO step: useful operations, and bytes of weights, stored keys and values, and optimizer state."""

    sampling_operations: int
    sampling_bytes: int
    update_operations: int
    update_bytes: int
    completion_tokens: int


def floor(workload: Workload) -> Floor:
    """The floor of one step of this workload; see the module's head for the arithmetic."""
    ends = lengths(workload)  # [N, G]
    return Floor(
        sampling_operations=sampling_operations(workload, ends),
        sampling_bytes=sampling_bytes(workload, ends),
        update_operations=update_operations(workload, ends),
        update_bytes=update_bytes(workload),
        completion_tokens=int(ends.sum()),
    )


def layer_matrices(shape: Shape) -> list[tuple[int, int]]:
    """Inputs and outputs of one layer's seven matrices: query, key, value, output, gate, up, down."""
    width, kv = shape.hidden, shape.kv_heads * shape.head_width
    return [
        (width, shape.heads * shape.head_width),
        (width, kv),
        (width, kv),
        (shape.heads * shape.head_width, width),
        (width, shape.intermediate),
        (width, shape.intermediate),
        (shape.intermediate, width),
    ]


def layer_weights(shape: Shape) -> int:
    """W: weights in all layers' matrices. Norms and biases are left out."""
    return shape.layers * sum(inputs * outputs for inputs, outputs in layer_matrices(shape))


def head_weights(shape: Shape) -> int:
    """V·d, the output layer's, which the tied embedding shares."""
    return shape.vocabulary * shape.hidden


def adapter_weights(workload: Workload) -> int:
    """Weights of LoRA on all seven matrices of each layer; 0 without LoRA."""
    if workload.adapter != LORA:
        return 0
    ranks = (workload.lora_rank * (m + n) for m, n in layer_matrices(workload.shape))
    return workload.shape.layers * sum(ranks)


def visible_pairs(workload: Workload, completion_tokens: np.ndarray) -> int:
    """Pairs of a query and a key that it sees; completions [N, G] behind prompts that are computed once."""
    prompt = workload.prompt_tokens
    tokens = completion_tokens.astype(np.int64)
    behind = tokens * prompt + tokens * (tokens + 1) // 2
    return workload.prompts * (prompt * (prompt + 1) // 2) + int(behind.sum())


def forward_operations(workload: Workload, ends: np.ndarray) -> tuple[int, int, int, int]:
    """(layers, LoRA, attention, head) of one forward pass over prompts and completions [N, G], prompts once."""
    shape = workload.shape
    tokens = workload.prompts * workload.prompt_tokens + int(ends.sum())
    pairs = visible_pairs(workload, ends)
    return (
        2 * layer_weights(shape) * tokens,
        2 * adapter_weights(workload) * tokens,
        4 * shape.layers * shape.heads * shape.head_width * pairs,
        2 * head_weights(shape) * int(ends.sum()),
    )


def update_operations(workload: Workload, ends: np.ndarray) -> int:
    """Forward and backward of one update; none where nothing is trained."""
    if workload.adapter == NO_ADAPTER:
        return 0
    layers, adapter, attention, head = forward_operations(workload, ends)
    frozen = 1 if workload.adapter == LORA else 2  # backward, in units of forward
    return (1 + frozen) * (layers + head) + 3 * (adapter + attention)


def sampling_operations(workload: Workload, ends: np.ndarray) -> int:
    """Prompts once, then every completion token but the last through the layers, and the head for each."""
    layers, adapter, attention, _ = forward_operations(workload, ends - 1)
    return layers + adapter + attention + 2 * head_weights(workload.shape) * int(ends.sum())


def sampling_bytes(workload: Workload, ends: np.ndarray) -> int:
    """Weights once for the prompts and once for each decoding step; a step's keys and values, prompts' once a group."""
    shape, size = workload.shape, BYTES[workload.precision]
    weights = (layer_weights(shape) + head_weights(shape)) * size + adapter_weights(workload) * ADAPTER_BYTES
    steps = int(ends.max()) - 1  # forward passes after the prompts'
    cached = 2 * shape.layers * shape.kv_heads * shape.head_width * size  # of one token
    alive = ends > 1  # a completion of one token needs no pass of its own
    prompts = int(np.where(alive, ends - 1, 0).max(1).sum()) * workload.prompt_tokens
    own = int((ends * (ends - 1) // 2).sum())  # pass t reads t tokens
    return (steps + 1) * weights + cached * (prompts + own)


def update_bytes(workload: Workload) -> int:
    """Weights read forward and backward; then AdamW: reads weight, gradient and two moments, writes all but one.

    Activations are left out: what of them passes through memory depends on the implementation.
    """
    if workload.adapter == NO_ADAPTER:
        return 0
    shape, size = workload.shape, BYTES[workload.precision]
    weights = layer_weights(shape) + head_weights(shape)
    if workload.adapter == FULL:
        return 2 * weights * size + (1 + 4 + 3) * weights * size
    return 2 * weights * size + (2 + 1 + 4 + 3) * adapter_weights(workload) * ADAPTER_BYTES
