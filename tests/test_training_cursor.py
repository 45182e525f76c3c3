"""Which cases a round gets is a pure function of the position."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.algorithm.cursor import take
from grandrounds.cases.load import load_cases
from grandrounds.recipe_file import recipe_from
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import train
from grandrounds.training.trace import read_trace


@settings(max_examples=100, deadline=None)
@given(cases=st.integers(1, 60), start=st.integers(0, 300), count=st.integers(0, 60), seed=st.integers(0, 5))
def test_no_draw_holds_a_case_twice_where_there_are_enough(
    cases: int, start: int, count: int, seed: int
) -> None:
    drawn = take(cases, start, count, seed)
    assert len(drawn) == count
    assert all(0 <= index < cases for index in drawn)
    assert drawn == take(cases, start, count, seed)
    assert len(set(drawn)) == count or count > cases


@pytest.mark.parametrize("count", [1, 4, 20])
def test_every_epoch_visits_every_case_once_in_its_own_order(count: int) -> None:
    epochs = [
        [index for start in range(epoch * 20, epoch * 20 + 20, count) for index in take(20, start, count, 3)]
        for epoch in range(4)
    ]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_seeds_give_different_orders() -> None:
    assert take(100, 0, 100, seed=0) != take(100, 0, 100, seed=1)


def test_the_order_never_changes_between_versions() -> None:
    assert take(7, 0, 7, seed=0) == [0, 2, 6, 3, 4, 1, 5]


def test_more_draws_than_cases_repeat_them() -> None:
    assert sorted(take(3, 0, 6, seed=0)) == [0, 0, 1, 1, 2, 2]


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="no cases"):
        take(0, 0, 1, 0)


def test_rounds_draw_on_from_where_the_warm_up_ended(tmp_path: Path) -> None:
    recipe = recipe_from(
        {
            "rounds": 1,
            "cases": {"source": "clinic", "clinic_train": 60, "clinic_test": 4},
            "policy": {
                "scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 800}
            },
            "sft": {"steps": 2, "batch_cases": 4},
            "grpo": {"group_size": 2, "cases_per_round": 3, "max_new_tokens": 320},
            "guard": {"enabled": False},
        }
    )
    run = train(recipe, tmp_path / "run", progress=SilentProgress())
    cases = load_cases(recipe.cases, seed=recipe.seed).train
    drawn = dict.fromkeys(row["case_id"] for row in read_trace(run.folder).to_pylist())
    assert list(drawn) == [cases[i].id for i in take(len(cases), 8, 3, recipe.seed)]
