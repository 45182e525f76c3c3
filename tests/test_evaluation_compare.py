"""Comparing policies: the same cases or an error, paired tests, and examples that nobody picked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from evaluation_support import ANSWER_ONLY, RIGHT, WRONG, FakeSampler, evaluated, make_case

from grandrounds.errors import CaseError
from grandrounds.evaluation import Baseline, compare
from grandrounds.evaluation.statistics import mcnemar_exact, wilson


def wrong_on(*places: int) -> FakeSampler:
    return FakeSampler({f"case-{place}": WRONG for place in places})


def three(count: int = 40):
    """A regular policy that is wrong on 20, a cold start on 10, a last one on 3."""
    return {
        "regular": evaluated(wrong_on(*range(20)), cases=count),
        "cold": evaluated(wrong_on(*range(10)), cases=count),
        "last": evaluated(wrong_on(0, 1, 30), cases=count),
    }


def test_pairs_are_the_first_with_each_and_each_with_the_last():
    pairs = compare(three()).pairs
    assert [(pair.before, pair.after) for pair in pairs] == [
        ("regular", "cold"),
        ("regular", "last"),
        ("cold", "last"),
    ]


def test_headline_is_the_first_against_the_last():
    headline = compare(three()).headline
    assert (headline.before, headline.after) == ("regular", "last")
    assert (headline.gained, headline.lost, headline.both_right, headline.both_wrong) == (18, 1, 19, 2)
    assert headline.p == pytest.approx(mcnemar_exact(1, 18).p)
    assert headline.difference == pytest.approx(17 / 40)
    assert headline.interval[0] < 17 / 40 < headline.interval[1]


def test_a_baseline_is_paired_with_the_last_policy():
    evaluations = three()
    right = {f"case-{i}": i not in (5, 6, 30) for i in range(40)}
    evaluations["last"] = replace(evaluations["last"], baselines=(Baseline("naive Bayes", right),))
    comparison = compare(evaluations)
    (pair,) = comparison.baselines
    assert (pair.before, pair.after, pair.gained, pair.lost) == ("naive Bayes", "last", 2, 2)
    assert pair.p == mcnemar_exact(2, 2).p
    row = comparison.to_json()["baselines"]["naive Bayes"]
    assert row["accuracy"] == 37 / 40
    assert row["accuracy_interval"] == list(wilson(37, 40))
    assert row["against"]["after"] == "last"


def test_order_of_cases_does_not_matter():
    cases = [make_case(f"case-{i}") for i in range(40)]
    forward, backward = three(), three()
    backward["last"] = evaluated(wrong_on(0, 1, 30), cases=cases[::-1])
    assert compare(forward).pairs == compare(backward).pairs


def test_other_cases_are_refused_and_named():
    evaluations = {"a": evaluated(cases=4), "b": evaluated(cases=6)}
    with pytest.raises(CaseError, match=r"only b has 2 \(case-4, case-5\)"):
        compare(evaluations)


def test_same_ids_with_another_question_are_refused():
    case = make_case("x")
    other = type(case)(**{**vars(case), "question": "Something else?"})
    with pytest.raises(CaseError, match=r"question, options or answer differ in 1 \(x\)"):
        compare({"a": evaluated(cases=[case]), "b": evaluated(cases=[other])})


def test_nothing_to_compare_is_an_error():
    with pytest.raises(CaseError, match="nothing to compare"):
        compare({})


def test_one_policy_has_no_pairs_but_examples():
    comparison = compare({"alone": evaluated(wrong_on(0))})
    assert comparison.pairs == ()
    assert comparison.headline is None
    assert {example.outcome for example in comparison.examples()} == {"both_right", "both_wrong"}


def test_examples_show_losses_as_well_as_gains():
    examples = compare(three()).examples()
    assert [example.outcome for example in examples] == ["gained", "lost", "both_right", "both_wrong"]
    assert examples[1].id == "case-30"


def test_examples_do_not_depend_on_what_was_said():
    terse = {**three(), "regular": evaluated(FakeSampler(three_texts(), otherwise=ANSWER_ONLY), cases=40)}
    assert compare(terse).examples(3) == compare(three()).examples(3)


def three_texts() -> dict[str, str]:
    return {f"case-{i}": "<answer>A</answer>" for i in range(20)}


def test_with_several_samples_a_case_counts_for_who_was_right_more_often():
    before = evaluated(FakeSampler(otherwise=[RIGHT, WRONG]), cases=6, samples=2)
    after = evaluated(FakeSampler({"case-0": WRONG}, otherwise=[RIGHT, RIGHT]), cases=6, samples=2)
    pair = compare({"before": before, "after": after}).headline
    assert (pair.gained, pair.lost) == (5, 1)
    assert pair.difference == pytest.approx((5 * 0.5 - 0.5) / 6)


def test_interval_is_wider_where_cases_share_a_group():
    def evaluations(grouped: bool):
        cases = [make_case(f"case-{i}", group=str(i // 10) if grouped else None) for i in range(40)]
        return {"a": evaluated(wrong_on(*range(10)), cases=cases), "b": evaluated(cases=cases)}

    lone, grouped = (compare(evaluations(each)).headline.interval for each in (False, True))
    assert grouped[1] - grouped[0] > 1.5 * (lone[1] - lone[0])


def test_results_of_a_case_come_from_every_policy():
    comparison = compare(three())
    assert {name: result.first.correct for name, result in comparison.results("case-15").items()} == {
        "regular": False,
        "cold": True,
        "last": True,
    }
    with pytest.raises(KeyError):
        comparison.results("nobody")


def test_comparison_is_json_with_counts_and_accuracies():
    row = json.loads(json.dumps(compare(three()).to_json()))
    assert row["count"] == 40
    assert row["policies"]["last"]["accuracy"] == pytest.approx(37 / 40)
    assert row["pairs"][1]["gained"] == 18
    assert row["outcomes"] == {"gained": 18, "lost": 1, "both_right": 19, "both_wrong": 2}
    assert "cases" not in row["policies"]["last"]


def test_comparing_twice_gives_the_same_numbers():
    assert compare(three(), seed=5).to_json() == compare(three(), seed=5).to_json()
