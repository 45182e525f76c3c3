"""Evaluating a policy: what is asked, how it is judged, and what the numbers are shares of."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from evaluation_support import (
    ANSWER_ONLY,
    REASONING,
    RIGHT,
    WRONG,
    FakeSampler,
    NoMigraine,
    evaluated,
    make_case,
)

from grandrounds.errors import CaseError
from grandrounds.evaluation.evaluate import question_text, restricted
from grandrounds.evaluation.result import Baseline
from grandrounds.response import Grammar
from grandrounds.types import Message


def test_one_sample_is_greedy_whatever_the_settings_say():
    sampler = FakeSampler()
    evaluated(sampler, seed=7)
    (_, n, settings, key), *_ = sampler.calls
    assert (n, settings.temperature, settings.top_p, settings.max_new_tokens) == (1, 0.0, 1.0, 64)
    assert key == (7, "evaluation")


def test_several_samples_keep_the_settings():
    sampler = FakeSampler()
    evaluated(sampler, samples=3)
    assert (sampler.calls[0][2].temperature, sampler.calls[0][2].top_p) == (0.7, 0.9)


def test_cases_are_asked_in_chunks_and_progress_counts_cases():
    seen = []
    sampler = FakeSampler()
    evaluated(sampler, cases=300, samples=4, progress=lambda done, total: seen.append((done, total)))
    assert [call[0] for call in sampler.calls] == [64, 64, 64, 64, 44]
    assert seen == [(done, 300) for done in range(301)]


def test_accuracy_is_the_share_of_right_answers_with_wilsons_interval():
    evaluation = evaluated(FakeSampler({"case-0": WRONG}), cases=10)
    assert evaluation.accuracy.value == 0.9
    assert evaluation.accuracy.interval == pytest.approx((0.5958499732, 0.9821237870), abs=1e-9)


def test_a_policy_that_answers_only_is_not_measured_on_its_reasoning():
    evaluation = evaluated(FakeSampler(otherwise=ANSWER_ONLY), knowledge=NoMigraine())
    assert evaluation.accuracy.value == evaluation.answered.value == 1.0
    assert evaluation.reasoned.value == evaluation.format.value == 0.0
    assert evaluation.consistency is evaluation.evidence is evaluation.validity_given_correct is None


def test_validity_is_a_share_of_right_answers_only():
    evaluation = evaluated(FakeSampler({"case-0": WRONG, "case-1": ANSWER_ONLY}), knowledge=NoMigraine())
    validity = evaluation.validity_given_correct
    assert (validity.of, validity.value) == (3, pytest.approx(2 / 3))


def test_consistency_is_a_share_of_responses_with_a_reasoning():
    contradicting = Grammar().render(REASONING, "A. Migraine")
    silent = Grammar().render("Let me think.", "B. Pericarditis")
    texts = {"case-0": contradicting, "case-1": silent, "case-2": ANSWER_ONLY}
    consistency = evaluated(FakeSampler(texts)).consistency
    assert (consistency.of, consistency.value) == (3, pytest.approx(1 / 3))


def test_invented_findings_lower_evidence_and_are_named():
    invented = RIGHT.replace("no fever.", "no fever; green hair.")
    evaluation = evaluated(FakeSampler({"case-0": invented}))
    assert evaluation.evidence.value < 1
    assert evaluation.cases[0].first.invented == ("green hair",)
    assert evaluation.cases[1].first.invented == ()


def test_an_empty_answer_is_no_answer():
    evaluation = evaluated(FakeSampler({"case-0": "<reasoning>x</reasoning><answer></answer>"}))
    assert evaluation.answered.value == 0.75


def test_cut_off_responses_are_counted():
    evaluation = evaluated(FakeSampler(otherwise="<reasoning>on and on", finish="length"))
    assert evaluation.lengths.cut_off == 1.0
    assert "cut_off" in evaluation.cases[0].first.defects


def test_votes_and_passes_need_several_samples():
    evaluation = evaluated()
    assert (evaluation.maj_at_k, evaluation.pass_at_k) == ({}, {})


def test_votes_and_passes_of_several_samples():
    sampler = FakeSampler({"case-0": [RIGHT, WRONG, WRONG], "case-1": [RIGHT, RIGHT, WRONG]}, otherwise=WRONG)
    evaluation = evaluated(sampler, cases=3, samples=3)
    assert evaluation.maj_at_k == {3: pytest.approx(1 / 3)}
    assert evaluation.pass_at_k == {
        1: pytest.approx(evaluation.accuracy.value),
        2: pytest.approx((2 / 3 + 1 + 0) / 3),
        3: pytest.approx(2 / 3),
    }


def test_subgroups_hold_every_tagged_case_and_flag_small_ones():
    cases = [make_case(f"c{i}", sex="woman" if i < 31 else "man") for i in range(40)]
    evaluation = evaluated(FakeSampler({"c39": WRONG}), cases=cases)
    found = {group.value: (group.count, group.accuracy, group.small) for group in evaluation.subgroups}
    assert found == {"woman": (31, 1.0, False), "man": (9, pytest.approx(8 / 9), True)}


def test_numbers_are_json_under_the_names_others_rely_on():
    evaluation = evaluated(skipped={"longer than the context": 2}, knowledge=NoMigraine())
    row = json.loads(json.dumps(evaluation.to_json()))
    assert (row["count"], row["accuracy"], row["skipped"]) == (4, 1.0, {"longer than the context": 2})
    assert len(row["accuracy_interval"]) == 2
    assert row["validity_given_correct_of"] == 4
    assert row["cases"][0]["answers"][0]["text"] == RIGHT
    assert row["cases"][0]["answers"][0]["check"]["valid"] is True


def test_responses_can_be_left_out_of_the_json():
    row = evaluated().to_json(responses=False)
    assert "Pericarditis leads Migraine" not in json.dumps(row)
    assert row["cases"][0]["answers"][0]["correct"] is True
    assert "cases" not in evaluated().to_json(cases=False)


def test_no_cases_is_an_error():
    with pytest.raises(CaseError, match="no case to evaluate"):
        evaluated(cases=0)


def test_two_cases_of_one_id_are_an_error():
    with pytest.raises(CaseError, match="case twin: two cases have this id"):
        evaluated(cases=[make_case("twin"), make_case("twin")])


def test_a_conversation_is_shown_without_its_system_message():
    messages = (Message("system", "Be brief."), Message("user", "Hello?"))
    case = make_case("chat")
    chat = type(case)(**{**vars(case), "question": messages, "context": ("A note.",)})
    assert question_text(chat) == "A note.\nHello?"


def test_cases_that_others_cannot_answer_are_left_out_and_counted():
    whole = evaluated(FakeSampler({"case-0": WRONG}), cases=10)
    with_baseline = replace(whole, baselines=(Baseline("always A", {f"case-{n}": n < 5 for n in range(10)}),))
    part = restricted(with_baseline, {f"case-{n}" for n in range(4)}, "too long for another policy")
    assert (part.count, part.accuracy.value) == (4, 0.75)
    assert part.skipped == {"too long for another policy": 6}
    assert part.baselines[0].correct == {f"case-{n}": True for n in range(4)}
    assert restricted(whole, {case.id for case in whole.cases}, "none") is whole
