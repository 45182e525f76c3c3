"""The arithmetic floor of the benchmarks, against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.floor import (
    adapter_weights,
    floor,
    head_weights,
    layer_weights,
    sampling_bytes,
    sampling_operations,
    update_bytes,
    update_operations,
    visible_pairs,
)
from bench.workloads import FULL, HALF_BILLION, LORA, NO_ADAPTER, SMALL, WORKLOADS, Shape, Workload

# 1 layer; query and output 4 × 4, key and value 4 × 2, gate, up and down 4 × 6: 16 + 16 + 8 + 8 + 3 · 24 = 120 weights.
SHAPE = Shape("hand", layers=1, hidden=4, intermediate=6, heads=2, kv_heads=1, vocabulary=10)
BY_HAND = Workload("hand", SHAPE, FULL, "float32", prompts=1, group=2, prompt_tokens=3, max_new=2)
ENDS = np.array([[1, 2]])
# Queries on keys: 1 + 2 + 3 of the prompt; 3 + 1 of the first completion; 3 + 1 and 3 + 2 of the second.
PAIRS = 6 + 4 + 4 + 5
# Operations on a pair: 2 heads of 2 numbers, scores and sum, two operations each.
ON_PAIR = 2 * 2 * 2 * 2


def test_weights_are_those_of_the_matrices() -> None:
    assert layer_weights(SHAPE) == 120
    assert head_weights(SHAPE) == 40


def test_sizes_are_those_of_the_names() -> None:
    assert layer_weights(SMALL) == pytest.approx(6e6, rel=0.05)
    assert layer_weights(HALF_BILLION) + head_weights(HALF_BILLION) == pytest.approx(0.494e9, rel=0.01)


def test_attention_counts_the_triangle_and_prompts_once() -> None:
    assert visible_pairs(BY_HAND, ENDS) == PAIRS


def test_full_update_is_three_forward_passes() -> None:
    # 3 prompt and 3 completion tokens through the layers, 3 through the head.
    assert update_operations(BY_HAND, ENDS) == 3 * (2 * 120 * 6 + 2 * 40 * 3 + ON_PAIR * PAIRS)


def test_lora_skips_the_gradients_of_frozen_weights() -> None:
    workload = replace(BY_HAND, adapter=LORA, lora_rank=1)
    adapter = (4 + 4) * 2 + (4 + 2) * 2 + (4 + 6) * 3
    assert adapter_weights(workload) == adapter
    frozen = 2 * (2 * 120 * 6 + 2 * 40 * 3)
    trained = 3 * (2 * adapter * 6 + ON_PAIR * PAIRS)
    assert update_operations(workload, ENDS) == frozen + trained


def test_sampling_feeds_every_token_but_the_last() -> None:
    # The prompt, and the first token of the second completion; the head gives all three completion tokens.
    pairs = 6 + 4
    assert sampling_operations(BY_HAND, ENDS) == 2 * 120 * (3 + 1) + 2 * 40 * 3 + ON_PAIR * pairs


def test_sampling_reads_weights_once_a_pass_and_prompts_once_a_group() -> None:
    # Two passes: the prompt's, and one token's, which reads 3 tokens of the prompt and itself.
    cached = 2 * 1 * 1 * 2 * 4  # keys and values of a token: one head of 2 numbers in float32
    assert sampling_bytes(BY_HAND, ENDS) == 2 * (120 + 40) * 4 + cached * (3 + 1)


def test_halving_precision_halves_the_bytes_read() -> None:
    workload = replace(WORKLOADS["B16"], adapter=NO_ADAPTER)
    assert 2 * floor(workload).sampling_bytes == floor(replace(workload, precision="float32")).sampling_bytes


def test_only_what_is_trained_has_optimizer_state() -> None:
    full, lora = update_bytes(BY_HAND), update_bytes(replace(BY_HAND, adapter=LORA, lora_rank=1))
    assert full == (120 + 40) * 4 * (2 + 8)
    assert lora == (120 + 40) * 4 * 2 + 58 * 4 * 10


def test_sharing_prompts_is_worth_more_with_larger_groups() -> None:
    def per_completion(group: int) -> float:
        return floor(replace(WORKLOADS["C"], group=group)).update_operations / group

    assert per_completion(16) < per_completion(8) < per_completion(2)


def test_sampling_alone_has_no_adapter_and_no_update() -> None:
    alone = replace(BY_HAND, adapter=NO_ADAPTER)
    assert adapter_weights(alone) == 0
    assert update_operations(alone, ENDS) == update_bytes(alone) == 0
