"""Calibration, effect sizes, adjusted p-values and subgroups against plain computations."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from evaluation_support import OPTIONS, RIGHT, WRONG, FakeSampler, evaluated, make_case
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.evaluation import compare
from grandrounds.evaluation.calibration import Vote, calibration, of_votes
from grandrounds.evaluation.effects import effect_of
from grandrounds.evaluation.statistics import holm, wilson
from grandrounds.evaluation.subgroups import (
    LENGTH,
    OTHERS,
    RIGHT_ANSWER,
    RIGHT_OPTION,
    gold_letter,
    labels_of_content,
    simultaneous_interval,
    subgroups,
)

VOTES = st.lists(
    st.builds(Vote, st.just(""), st.integers(0, 4).map(lambda j: j / 4), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=12,
)


def plain_error(votes: list[Vote]) -> float:
    """The expected calibration error, bin by bin."""
    bins = defaultdict(list)
    for vote in votes:
        bins[vote.confidence].append(vote.right)
    return sum(
        len(rights) / len(votes) * abs(sum(rights) / len(rights) - confidence)
        for confidence, rights in bins.items()
    )


def plain_area(votes: list[Vote]) -> float:
    """The mean risk over coverages, averaged over every order of cases that are equally sure."""
    areas = []
    for order in permutations(votes):
        if all(one.confidence >= other.confidence for one, other in pairwise(order)):
            errors = np.cumsum([1 - vote.right for vote in order])
            areas.append(np.mean(errors / np.arange(1, len(order) + 1)))
    return float(np.mean(areas))


@given(VOTES)
def test_calibration_is_that_of_a_plain_computation(votes):
    found = of_votes(votes, 4)
    assert found.error == pytest.approx(plain_error(votes))
    assert found.brier == pytest.approx(sum((v.right - v.confidence) ** 2 for v in votes) / len(votes))
    assert sum(level.count for level in found.levels) == len(votes)
    last = found.coverage[-1]
    assert (last.count, last.coverage) == (len(votes), 1)
    assert last.risk == pytest.approx(1 - found.accuracy)
    for at in found.coverage:
        surest = [vote for vote in votes if vote.confidence >= at.confidence]
        assert at.count == len(surest)
        assert at.risk == pytest.approx(1 - sum(vote.right for vote in surest) / len(surest))
        assert at.interval == pytest.approx(wilson(at.risk * at.count, at.count))


@given(VOTES.filter(lambda votes: len(votes) <= 6))
def test_the_area_under_risk_and_coverage_does_not_depend_on_the_order_of_ties(votes):
    assert of_votes(votes, 4).area == pytest.approx(plain_area(votes))


def test_chance_alone_gives_few_cases_an_error():
    few = of_votes([Vote("", 0.5, 1.0), Vote("", 0.5, 0.0)], 2)
    assert few.error == 0
    # Two coins: both fall the same way half of the time, and then the error is 0.5.
    assert few.chance_error == pytest.approx(0.25, abs=0.03)
    assert of_votes([Vote("", 1.0, 1.0)] * 5, 2).chance_error == 0


def test_confidence_is_the_share_of_answers_that_agree():
    unread = "<answer>nothing of the kind</answer>"
    texts = {
        "all right": [RIGHT] * 4,
        "split": [RIGHT, WRONG, WRONG, RIGHT],
        "mostly wrong": [WRONG, WRONG, WRONG, RIGHT],
        "unread": [RIGHT, unread, unread, unread],
        "nothing read": [unread] * 4,
    }
    cases = [make_case(name) for name in texts]
    found = calibration(evaluated(FakeSampler(texts), cases, samples=4))
    assert {vote.case_id: (vote.confidence, vote.right) for vote in found.votes} == {
        "all right": (1.0, 1.0),
        "split": (0.5, 0.5),
        "mostly wrong": (0.75, 0.0),
        "unread": (0.25, 1.0),
        "nothing read": (0.0, 0.0),
    }
    assert calibration(evaluated()) is None


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    ps = [0.01, 0.04, 0.03, 0.5]
    # 0.01 * 4; 0.03 * 3; 0.04 * 2 is below the one before; 0.5 * 1
    assert [10**p for p in holm([math.log10(p) for p in ps])] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []
    assert holm([-300.0, -2.0]) == [pytest.approx(-300 + math.log10(2)), -2.0]


def test_effect_sizes_are_those_of_their_formulas():
    wrong = {f"case-{i}": WRONG for i in range(4)}
    pair = compare(
        {"a": evaluated(FakeSampler(wrong), 10), "b": evaluated(FakeSampler({"case-9": WRONG}), 10)}
    )
    found = effect_of(pair.pairs[0], 0.6)
    assert found.odds_ratio == pytest.approx(4 / 1)
    low, high = wilson(4, 5)
    assert found.odds_interval == pytest.approx((low / (1 - low), high / (1 - high)))
    assert found.cohens_h == pytest.approx(2 * math.asin(math.sqrt(0.9)) - 2 * math.asin(math.sqrt(0.6)))


def test_effects_at_the_ends_are_said_to_be_so():
    same = compare({"a": evaluated(), "b": evaluated()}).pairs[0]
    assert effect_of(same, 1.0) == replace(
        effect_of(same, 1.0), odds_ratio=None, odds_interval=None, cohens_h=0
    )
    better = compare({"a": evaluated(FakeSampler(otherwise=WRONG)), "b": evaluated()}).pairs[0]
    found = effect_of(better, 0.0)
    assert math.isinf(found.odds_ratio)
    assert found.cohens_h == pytest.approx(math.pi)


def test_groups_by_content_name_answer_option_and_length():
    cases = [
        replace(
            make_case(f"case-{i}"), question=f"A woman {'who is tired ' * (i % 3)}has chest pain. What is it?"
        )
        for i in range(9)
    ]
    evaluation = evaluated(cases=cases)
    labels = labels_of_content(evaluation.cases)
    assert {one[RIGHT_ANSWER] for one in labels.values()} == {OPTIONS["B"]}
    assert {one[RIGHT_OPTION] for one in labels.values()} == {"B"}
    assert len({one[LENGTH] for one in labels.values()}) == 3
    groups = subgroups(evaluation.cases, lambda case: labels[case.id])
    assert [group.count for group in groups if group.tag == LENGTH] == [3, 3, 3]
    assert gold_letter(evaluation.cases[0]) == "B"


def test_answers_that_never_repeat_make_no_groups_and_rare_ones_share_one():
    def with_answer(id: str, text: str):
        case = make_case(id)
        return replace(case, options={"A": "Gout", "B": text}, gold=replace(case.gold, text=text))

    single = evaluated(cases=[with_answer(str(i), f"condition {i}") for i in range(6)])
    assert all(RIGHT_ANSWER not in one for one in labels_of_content(single.cases).values())
    many = evaluated(cases=[with_answer(str(i), f"condition {i % 13}") for i in range(39)])
    found = {one[RIGHT_ANSWER] for one in labels_of_content(many.cases).values()}
    assert len(found) == 12
    assert OTHERS in found


def test_an_interval_for_many_groups_is_wider():
    (group,) = subgroups(evaluated(FakeSampler({"case-0": WRONG}), 20).cases, lambda case: {"all": "all"})
    alone, among = simultaneous_interval(group, 1), simultaneous_interval(group, 20)
    assert alone[0] < group.interval[0] < group.interval[1] < alone[1]  # exact ones are wider than Wilson's
    assert among[0] < alone[0] < alone[1] < among[1]


def test_one_right_case_proves_nothing_among_many_groups():
    (group,) = subgroups(evaluated(cases=[make_case("one")]).cases, lambda case: {"all": "all"})
    assert group.accuracy == 1
    assert simultaneous_interval(group, 20) == pytest.approx((0.05 / 40, 1))


def test_groups_stand_in_order_of_their_numbers():
    ages = ["2 to 11", "12 to 17", "40 to 64", "unknown", "9" * 5000]
    cases = [make_case(f"case-{age[:9]}", age=age) for age in reversed(ages)]
    found = [
        group.value
        for group in subgroups(evaluated(cases=cases).cases, lambda case: {"age": case.tags["age"]})
    ]
    assert [age for age in found if len(age) < 10] == ages[:4]
