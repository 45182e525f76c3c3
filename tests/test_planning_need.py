"""A run's memory by part is plain arithmetic: it adds up, grows with the work, and follows the code's own limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.kernels.head import token_logprobs
from grandrounds.planning import need as module
from grandrounds.planning.need import (
    HEAP_SHARE,
    HEAP_SHARE_LORA,
    LARGEST_HEAP_BLOCK,
    MAPPED_SHARE,
    Shape,
    Work,
    need,
    work_of,
)
from grandrounds.planning.rehearsal import LiveBytes
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.sampling.batch import STORE_BYTES

MIB = 2**20
SHAPE = Shape(
    weights=100 * MIB,
    unpacked=0,
    adapters=0,
    trained=100 * MIB,
    moments=200 * MIB,
    element=4,
    vocabulary=1000,
    hidden=64,
    layers=4,
    query_heads=4,
    context=2048,
    copies=0,
    store=1024,
    kept=10_000.0,
    passing=500.0,
    prefill=300.0,
    fixed=0,
)
LORA = replace(SHAPE, adapters=2 * MIB, trained=2 * MIB, moments=4 * MIB)
WORK = Work(prompts=4, prompt_tokens=100, group_size=8, new_tokens=50, tokens_per_pack=4096)


def test_the_parts_of_a_small_round_are_those_worked_out_by_hand() -> None:
    parts = need(SHAPE, WORK, process=400 * MIB)
    tokens = 4 * (100 + 8 * 50)
    assert WORK.pack_tokens == WORK.step_tokens == tokens
    assert parts.resident == (400 + 100 + 2 * 100) * MIB
    assert parts.store == tokens * 1024
    assert parts.prefill == 4 * 100 * 300
    assert parts.choosing == 4 * (32 * 1000 * 4)  # logits; 32 rows of 4 heads and 150 scores are less
    assert parts.activations == tokens * 10_000
    assert parts.layer == tokens * 500
    assert parts.heap == round(HEAP_SHARE * tokens * 10_500)
    assert not parts.several_packs
    # Of one pack, gradients come as its activations go.
    assert parts.peak == parts.resident + parts.gradients + parts.heap


def test_weights_are_copied_for_sampling_on_a_cpu() -> None:
    shape = replace(SHAPE, copies=90 * MIB)
    assert need(shape, WORK, process=0).sampling == need(SHAPE, WORK, process=0).sampling + 90 * MIB
    assert need(shape, WORK, process=0, on_cpu=False).copies == 0


def test_packed_weights_need_room_for_one_layer_unpacked() -> None:
    packed = need(replace(LORA, weights=26 * MIB, unpacked=5 * MIB), WORK, process=0)
    assert packed.resident == need(LORA, WORK, process=0).resident - 100 * MIB + 31 * MIB


def test_gradients_await_further_packs() -> None:
    parts = need(SHAPE, replace(WORK, tokens_per_pack=500), process=0)
    assert parts.several_packs
    computed = parts.activations + max(parts.layer, parts.head)
    assert parts.update == parts.gradients + computed


def test_layers_that_are_recomputed_hold_one_layers_copies_of_prompts() -> None:
    kept = need(SHAPE, WORK, process=0, on_cpu=False)
    copies = 4 * 7 * 100 * 1024
    assert kept.activations == need(SHAPE, WORK, process=0).activations + copies
    for recompute in ("layers", "offload"):
        again = need(replace(SHAPE, recompute=recompute), WORK, process=0, on_cpu=False)
        assert again.activations == kept.activations - copies
        assert again.layer == kept.layer + copies // 4


def test_what_waits_in_the_computers_memory_is_told_and_not_counted() -> None:
    kept, away = (
        need(replace(SHAPE, recompute=recompute), WORK, process=0, on_cpu=False)
        for recompute in ("layers", "offload")
    )
    assert kept.offloaded == 0
    assert away.offloaded == WORK.pack_tokens * 4 * 64 * 4  # layers, width, bytes
    assert away.peak == kept.peak


def test_a_reference_is_a_copy_only_where_all_weights_are_trained() -> None:
    work = replace(WORK, reference=True)
    assert need(SHAPE, work, process=0).reference == SHAPE.weights
    assert need(LORA, work, process=0).reference == 0


def test_large_blocks_leave_no_holes() -> None:
    tokens = LARGEST_HEAP_BLOCK // (SHAPE.hidden * SHAPE.element)
    small, large = (
        need(SHAPE, replace(WORK, prompts=1000, tokens_per_pack=count), process=0)
        for count in (tokens, tokens + 1)
    )
    assert large.heap / small.heap == pytest.approx(MAPPED_SHARE / HEAP_SHARE, rel=0.01)
    assert need(SHAPE, WORK, process=0, on_cpu=False).heap == 0


def test_holes_are_counted_by_the_size_in_float32() -> None:
    for shape, share in ((SHAPE, HEAP_SHARE), (LORA, HEAP_SHARE_LORA)):
        parts = need(replace(shape, element=2), WORK, process=0)
        assert parts.heap == round(share * 2 * (parts.activations + parts.layer))


def test_holes_stay_while_sampling_and_are_not_in_what_cannot_be_avoided() -> None:
    for copies in (0, 500 * MIB):
        parts = need(replace(SHAPE, copies=copies), WORK, process=0)
        assert (parts.sampling > parts.update) == bool(copies)
        assert parts.least == parts.resident + max(parts.sampling, parts.update)
        assert parts.peak == parts.least + parts.heap


def test_rows_at_work_hold_no_more_than_the_store() -> None:
    parts = need(SHAPE, replace(WORK, prompts=10**6), process=0)
    assert parts.store == STORE_BYTES
    one = need(replace(SHAPE, store=STORE_BYTES), WORK, process=0)
    assert one.store == WORK.shortest_pack * STORE_BYTES  # a row at least


def test_a_pack_holds_a_prompt_and_a_completion_at_least() -> None:
    assert replace(WORK, tokens_per_pack=1).pack_tokens == 150


def test_limits_of_sampler_and_head_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STORE_BYTES", 1)
    monkeypatch.setattr(module, "chunk_rows", lambda vocabulary: 10**6)
    parts = need(SHAPE, WORK, process=0)
    assert parts.store == WORK.shortest_pack * SHAPE.store
    assert parts.head > 2 * WORK.pack_tokens * 1000 * 4 - 1


@given(
    st.sampled_from(["prompts", "prompt_tokens", "group_size", "new_tokens", "demonstrations"]),
    st.integers(1, 300),
    st.booleans(),
)
def test_more_work_never_needs_less(name: str, more: int, lora: bool) -> None:
    # Few enough tokens that no block outgrows the heap.
    shape = replace(LORA if lora else SHAPE, hidden=1)
    larger = replace(WORK, **{name: getattr(WORK, name) + more})
    before, after = (need(shape, work, process=0) for work in (WORK, larger))
    assert after.peak >= before.peak
    assert after.least >= before.least


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("vocabulary", [1000, 40_000])
def test_the_head_takes_what_the_head_is_said_to_take(
    dtype: torch.dtype, whole: bool, vocabulary: int
) -> None:
    tokens, width = 600, 16
    shape = replace(SHAPE if whole else LORA, vocabulary=vocabulary, hidden=width, element=dtype.itemsize)
    work = replace(WORK, prompts=1, prompt_tokens=1, group_size=tokens, new_tokens=1, tokens_per_pack=tokens)
    hidden = torch.ones(tokens, width, dtype=dtype, requires_grad=True)
    weight = torch.ones(vocabulary, width, dtype=dtype, requires_grad=whole)
    with LiveBytes() as live:
        logprobs, _ = token_logprobs(hidden, weight, torch.zeros(tokens, dtype=torch.int64))
        logprobs.sum().backward()
    assert need(shape, work, process=0).head == pytest.approx(live.most, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "eight_bits"),
    [
        ([], False),
        (["grpo.optimizer=adamw_8bit"], True),
        (["grpo.optimizer=adamw_8bit", "sft.steps=5"], False),  # the warm-up's are larger
        (["grpo.optimizer=adamw_8bit", "sft.steps=5", "sft.optimizer=adamw_8bit"], True),
        (["sft.optimizer=adamw_8bit", "sft.steps=5", "rounds=0"], True),
        (["sft.optimizer=adamw_8bit", "sft.steps=5"], False),
    ],
)
def test_moments_are_counted_in_8_bits_where_all_optimizers_keep_them_so(
    settings: list[str], eight_bits: bool
) -> None:
    assert work_of(with_overrides(Recipe(), settings), 30).eight_bits is eight_bits


def test_work_is_the_recipes() -> None:
    recipe = with_overrides(
        Recipe(),
        [
            "grpo.cases_per_round=10",
            "grpo.minibatches=3",
            "grpo.beta=0.1",
            "sft.steps=5",
            "sft.batch_cases=7",
            "grpo.max_new_tokens=20",
        ],
    )
    work = work_of(recipe, 30)
    assert (work.prompts, work.steps, work.reference, work.demonstrations) == (10, 3, True, 7)
    assert work.step_tokens == 4 * (30 + 8 * 20)
    assert work_of(recipe, 30, cases=2).prompts == 2
    only_sft = work_of(with_overrides(recipe, ["rounds=0"]), 30)
    assert only_sft.step_tokens == 7 * 50
    assert need(SHAPE, only_sft, process=0).sampling == 0
