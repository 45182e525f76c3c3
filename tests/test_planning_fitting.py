"""What is said to fit fits, and one more does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_planning_need import LORA, MIB, SHAPE, WORK

from grandrounds.planning.fitting import (
    Room,
    largest,
    largest_group_size,
    longest_completion,
    smallest_change,
)

FIELDS = {"tokens_per_pack": "tokens_per_pack", "max_new_tokens": "new_tokens", "group_size": "group_size"}


def room(memory: int) -> Room:
    """A small LoRA model on so many MiB; its own parts take 108."""
    return Room(LORA, memory * MIB, process=MIB)


@pytest.mark.parametrize("limit", [-1, 0, 1, 7, 99, 100, 1000])
def test_the_largest_is_the_last_that_fits(limit: int) -> None:
    found = largest(lambda number: number <= limit, 0, 100)
    assert found == (None if limit < 0 else min(limit, 100))


def test_nothing_lies_in_an_empty_range() -> None:
    assert largest(lambda _: True, 3, 2) is None


@pytest.mark.parametrize("memory", [120, 150, 200])
def test_one_completion_more_would_not_fit(memory: int) -> None:
    here = room(memory)
    work = replace(WORK, prompts=1)
    size = largest_group_size(here, work)
    assert size is not None
    assert here.fits(replace(work, group_size=size))
    assert not here.fits(replace(work, group_size=size + 1))


def test_one_token_more_would_not_fit() -> None:
    work = replace(WORK, prompts=1)
    tokens = longest_completion(room(150), work)
    assert tokens is not None
    assert room(150).fits(replace(work, new_tokens=tokens))
    assert not room(150).fits(replace(work, new_tokens=tokens + 1))


def test_completions_end_with_the_context() -> None:
    assert longest_completion(room(10**6), WORK) == SHAPE.context - WORK.prompt_tokens


def test_packs_are_made_smaller_before_anything_else() -> None:
    change = smallest_change(room(140), WORK)
    assert list(change) == ["grpo.tokens_per_pack"]
    assert WORK.shortest_pack <= change["grpo.tokens_per_pack"] < WORK.tokens_per_pack


@pytest.mark.parametrize("memory", [110, 111, 112, 115, 120, 130])
def test_every_change_that_is_proposed_helps(memory: int) -> None:
    assert not room(memory).fits(replace(WORK, tokens_per_pack=10**6))
    change = smallest_change(room(memory), WORK)
    if change:
        changed = {FIELDS[key.removeprefix("grpo.")]: value for key, value in change.items()}
        assert room(memory).fits(replace(WORK, **changed))
        assert all(value < getattr(WORK, name) for name, value in changed.items())


def test_two_changes_where_one_does_not_suffice() -> None:
    work = replace(WORK, prompts=64, new_tokens=1500, tokens_per_pack=16_384)
    here = Room(replace(LORA, store=1), 130 * MIB, process=MIB)
    assert set(smallest_change(here, work)) == {"grpo.max_new_tokens", "grpo.tokens_per_pack"}


def test_no_change_makes_the_weights_fit() -> None:
    assert smallest_change(room(100), WORK) == {}


def test_the_longest_is_found_where_very_short_ones_take_more_again() -> None:
    """On a GPU a pack holds many short groups, each with copies of its prompt for every completion."""
    shape = replace(LORA, store=100_000, context=10**6)
    here = Room(shape, 2500 * MIB, process=MIB, on_cpu=False)
    work = replace(WORK, prompts=64, prompt_tokens=100, new_tokens=400, tokens_per_pack=4000)
    assert here.fits(work)
    assert not here.fits(replace(work, new_tokens=1))
    tokens = longest_completion(here, work)
    assert tokens is not None
    assert tokens > 400
    assert not here.fits(replace(work, new_tokens=tokens + 1))
