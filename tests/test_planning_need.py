"""A run's memory by part is plain arithmetic: it adds up and grows with the work; what is said to fit fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.planning import need as module
from grandrounds.planning.need import FRAGMENTATION, Measured, Work, need, work_of
from grandrounds.planning.plan import Plan, largest
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides

MIB = 2**20
COUNTS = {
    "process": 1 * MIB,
    "weights": 100 * MIB,
    "unpacked": 0,
    "adapters": 2 * MIB,
    "reference": 0,
    "optimizer": 4 * MIB,
    "gradients": 2 * MIB,
    "copies": 0,
    "kv_token": 1024,
}
COSTS = Measured(token=10_500.0, fixed=50.0, offloaded=0.0, head=3000, prefill=300.0, row=16_000.0)
WORK = Work(prompts=4, prompt_tokens=100, group_size=8, max_new_tokens=50, tokens_per_pack=4096)
TOKENS = 4 * (100 + 8 * 50)


def test_the_parts_of_a_small_round_are_those_worked_out_by_hand() -> None:
    parts = need({**COUNTS, "copies": 9 * MIB}, COSTS, WORK, fragmentation=0.5)
    assert WORK.pack_tokens == WORK.step_tokens == TOKENS
    assert parts["resident"] == (1 + 100 + 2 + 4) * MIB
    assert parts["kv_cache"] == TOKENS * 1024
    assert (parts["prefill"], parts["choosing"]) == (4 * 100 * 300, 32 * 16_000)
    assert parts["sampling"] == 9 * MIB + parts["kv_cache"] + parts["choosing"]
    assert parts["activations"] == TOKENS * 10_500 + 50
    assert parts["update"] == parts["activations"] + 3000
    assert parts["least"] == parts["resident"] + parts["update"]
    assert parts["peak"] == parts["least"] + round(parts["activations"] / 2)


def test_gradients_of_several_packs_stay_and_those_of_one_come_as_activations_go() -> None:
    large = {**COUNTS, "gradients": 900 * MIB}
    one, several = (
        need(large, COSTS, replace(WORK, tokens_per_pack=tokens), fragmentation=0) for tokens in (4096, 500)
    )
    assert one["update"] == 900 * MIB
    assert several["update"] == 900 * MIB + several["activations"] + 3000


def test_what_waits_beside_a_gpu_is_told_and_in_no_sum() -> None:
    here, away = (need(COUNTS, replace(COSTS, offloaded=size), WORK, fragmentation=0) for size in (0.0, 40.0))
    assert away["offloaded"] == 40 * TOKENS
    assert away["peak"] == here["peak"]


def test_the_kv_cache_has_the_samplers_limit_and_room_for_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KV_CACHE_BYTES", 10 * MIB)
    crowd = replace(WORK, prompts=10**6)
    assert need(COUNTS, COSTS, crowd, fragmentation=0)["kv_cache"] == 10 * MIB
    wide = {**COUNTS, "kv_token": 10 * MIB}
    assert need(wide, COSTS, crowd, fragmentation=0)["kv_cache"] == 150 * 10 * MIB


def test_a_pack_holds_a_prompt_and_a_completion_at_least() -> None:
    assert replace(WORK, tokens_per_pack=1).pack_tokens == 150


@given(
    st.sampled_from(["prompts", "prompt_tokens", "group_size", "max_new_tokens", "demonstrations"]),
    st.integers(1, 300),
)
def test_more_work_never_needs_less(name: str, more: int) -> None:
    larger = replace(WORK, **{name: getattr(WORK, name) + more})
    before, after = (need(COUNTS, COSTS, work, fragmentation=0.3) for work in (WORK, larger))
    assert after["peak"] >= before["peak"]


def test_work_is_the_recipes() -> None:
    changes = {"cases_per_round": 10, "minibatches": 3, "max_new_tokens": 20}
    recipe = with_overrides(
        Recipe(),
        [*(f"grpo.{key}={value}" for key, value in changes.items()), "sft={steps: 5, batch_cases: 7}"],
    )
    work = work_of(recipe, 30)
    assert (work.prompts, work.steps, work.demonstrations) == (10, 3, 7)
    assert work.step_tokens == 4 * (30 + 8 * 20)
    assert work_of(recipe, 30, cases=2).prompts == 2
    assert work_of(with_overrides(recipe, ["rounds=0"]), 30).step_tokens == 7 * 50


def plan_on(memory: int, work: Work = WORK, **counts: int) -> Plan:
    """Of a small LoRA model on a device of so many MiB."""
    return Plan(
        "m", "cpu", "float32", {}, work, {**COUNTS, **counts}, COSTS, context=2048, memory=memory * MIB
    )


@pytest.mark.parametrize("limit", [-1, 0, 1, 7, 99, 100, 1000])
def test_the_largest_is_the_last_that_fits(limit: int) -> None:
    assert largest(lambda number: number <= limit, 0, 100) == (None if limit < 0 else min(limit, 100))
    assert largest(lambda _: True, 3, 2) is None


@pytest.mark.parametrize("memory", [120, 140])
def test_one_completion_or_token_more_would_not_fit(memory: int) -> None:
    made = plan_on(memory, replace(WORK, prompts=1))
    size, tokens = made.largest_group_size, made.longest_completion
    assert size is not None
    assert tokens is not None
    for key, most in (("group_size", size), ("max_new_tokens", tokens)):
        assert made.holds(**{key: most})
        assert not made.holds(**{key: most + 1})
    assert plan_on(10**6).longest_completion == 2048 - WORK.prompt_tokens  # the context's end


@pytest.mark.parametrize("memory", [100, 110, 111, 112, 115, 120, 130, 140])
def test_every_change_that_is_proposed_helps_and_packs_come_first(memory: int) -> None:
    made = plan_on(memory)
    assert made.fits is False
    changes = made.smallest_change
    work = {key.removeprefix("grpo."): value for key, value in changes.items()}
    assert all(value < getattr(WORK, key) for key, value in work.items())
    assert made.holds(**work) is bool(work)
    assert bool(work) is (memory > 111)  # the model alone takes 107
    if made.holds(tokens_per_pack=WORK.sequence):
        assert list(work) == ["tokens_per_pack"]


def test_two_changes_where_one_does_not_suffice() -> None:
    work = replace(WORK, prompts=64, max_new_tokens=1500, tokens_per_pack=16_384)
    changes = plan_on(130, work, kv_token=1).smallest_change
    assert set(changes) == {"grpo.max_new_tokens", "grpo.tokens_per_pack"}


def test_the_heap_is_fragmented_on_a_cpu_alone_and_more_in_bfloat16() -> None:
    here = plan_on(1000)
    full = replace(here, counts={**here.counts, "adapters": 0})

    def share(plan: Plan) -> float:
        return plan.need["heap"] / plan.need["activations"]

    assert share(replace(here, device="cuda")) == 0
    for precision in ("float32", "bfloat16"):
        for kind, plan in (("lora", here), ("full", full)):
            found = share(replace(plan, precision=precision))
            assert found == pytest.approx(FRAGMENTATION[kind, precision])
    assert share(replace(here, precision="float64")) == pytest.approx(FRAGMENTATION["lora", "float32"])
