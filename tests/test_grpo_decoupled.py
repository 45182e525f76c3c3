"""GDPO's advantages: every component compared within its group by itself."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.algorithm.decoupled import decoupled_advantages
from grandrounds.algorithm.grpo import EPSILON
from grandrounds.errors import RecipeError
from grandrounds.recipe_file import recipe_from


def plain(scores: list[list[list[float | None]]], weights: list[float]) -> list[list[float]]:
    """Number by number, as the paper writes it. scores: K × N × G."""
    groups, size = len(scores[0]), len(scores[0][0])
    summed = [[0.0] * size for _ in range(groups)]
    for component, weight in zip(scores, weights, strict=True):
        for n, group in enumerate(component):
            known = [score for score in group if score is not None]
            for g, score in enumerate(group):
                if score is not None and len(known) > 1:
                    deviation = statistics.stdev(known) + EPSILON
                    summed[n][g] += weight * (score - statistics.mean(known)) / deviation
    flat = [value for group in summed for value in group]
    mean, deviation = statistics.mean(flat), statistics.stdev(flat) + EPSILON
    return [[(value - mean) / deviation for value in group] for group in summed]


SCORE = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0]))


@given(
    st.lists(
        st.lists(st.lists(SCORE, min_size=4, max_size=4), min_size=3, max_size=3), min_size=1, max_size=3
    )
)
def test_advantages_are_those_of_the_formula(scores: list[list[list[float | None]]]) -> None:
    weights = [1.0, 0.5, 0.2][: len(scores)]
    made = decoupled_advantages(np.array(scores, np.float64), weights, EPSILON)
    np.testing.assert_allclose(made, plain(scores, weights), atol=1e-9)


def test_completions_whose_sums_are_equal_still_differ() -> None:
    """Right in a bad form and wrong in a good one have the same sum, but are seldom equally rare."""
    accuracy, form = [[1.0, 0.0, 0.0, 0.0]], [[0.0, 1.0, 1.0, 1.0]]
    assert len(set(np.add(accuracy, form).ravel())) == 1
    made = decoupled_advantages(np.array([accuracy, form]), [1.0, 0.5], EPSILON)
    assert made[0, 0] > 0 > made[0, 1]


def test_a_group_in_which_nothing_differs_gets_exactly_zero() -> None:
    scores = np.array([[[0.1, 0.1, 0.1], [0.0, 1.0, 1.0]], [[0.7, 0.7, 0.7], [0.3, 0.3, 0.3]]])
    made = decoupled_advantages(scores, [1.0, 1.0], EPSILON)
    assert (made[0] == 0).all()
    assert (made[1] != 0).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grpo": {"advantage_scale": "none"}}, "advantage_scale"),
        ({"grpo": {"baseline": "leave_one_out"}}, "baseline"),
        ({"rewards": {"accuracy": {}, "format": {"gate": True}}}, "rewards.format"),
    ],
)
def test_what_contradicts_it_is_refused(changes: dict[str, Any], said: str) -> None:
    grpo = {"aggregation": "normalize_then_sum", **changes.pop("grpo", {})}
    with pytest.raises(RecipeError, match=said):
        recipe_from({"grpo": grpo, **changes})
