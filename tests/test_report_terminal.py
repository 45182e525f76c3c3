"""Tables and cases in the terminal: they fit, are ASCII in a pipe, and let no response steer the terminal."""

from __future__ import annotations

import io
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
from rich.console import Console

from grandrounds.evaluation import Baseline, Comparison, compare
from grandrounds.report.layout import layout_of
from grandrounds.report.side_by_side import clean, print_example
from grandrounds.report.tables import print_comparison, print_evaluation
from grandrounds.response import Grammar


def printed(draw, *, width: int, terminal: bool = False) -> str:
    stream = io.StringIO()
    draw(Console(file=stream, width=width, force_terminal=terminal, color_system=None))
    return stream.getvalue()


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    cases = [make_case(f"case-{i}", sex="woman" if i % 3 else "man", record=str(i)) for i in range(40)]
    wrong = FakeSampler({f"case-{i}": WRONG for i in range(15)}, otherwise=ANSWER_ONLY)
    cold = FakeSampler({f"case-{i}": WRONG for i in range(8)})
    last = FakeSampler({"case-0": WRONG, "case-30": WRONG})
    samplers = {"regular": wrong, "cold start": cold, "GRPO": last}
    return compare({n: evaluated(s, cases=cases, knowledge=NoMigraine()) for n, s in samplers.items()})


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("terminal", [False, True])
def test_every_line_fits_the_width(comparison, width, terminal):
    def draw(console):
        print_comparison(console, comparison, notice="A teaching world.")
        print_evaluation(console, "GRPO", comparison.evaluations["GRPO"])
        for example in comparison.examples():
            print_example(console, comparison, example)

    assert max(map(len, printed(draw, width=width, terminal=terminal).splitlines())) <= width


def test_three_policies_stand_beside_each_other_in_60_columns(comparison):
    text = printed(lambda console: print_comparison(console, comparison), width=60)
    assert any(all(name in line for name in comparison.names) for line in text.splitlines())


def test_many_policies_are_shown_in_several_tables(comparison):
    many = compare({f"policy {i}": comparison.evaluations["GRPO"] for i in range(7)})
    text = printed(lambda console: print_comparison(console, many), width=60)
    assert all(f"policy {i}" in text for i in range(7))


def test_output_is_ascii_when_not_a_terminal(comparison):
    def draw(console):
        print_comparison(console, comparison)
        print_example(console, comparison, comparison.examples()[0])

    assert printed(draw, width=100).isascii()


def test_tables_say_what_was_measured(comparison):
    text = printed(lambda console: print_comparison(console, comparison), width=100)
    for words in ("Accuracy", "95.0 %", "Form kept", "Valid if right", "1 : 14"):
        assert words in text
    assert "GRPO answers cases like these better than regular" in text


def test_measures_of_reasoning_do_not_apply_to_a_policy_that_answers_only():
    terse = evaluated(FakeSampler(otherwise=ANSWER_ONLY))
    both = compare({"terse": terse, "reasoning": evaluated()})
    text = printed(lambda console: print_comparison(console, both), width=100)
    for label in ("Form kept", "Consistent"):
        line = next(line for line in text.splitlines() if label in line)
        assert line.removeprefix(label).split() == ["-", "100.0", "%"]
    assert "Consistent" not in printed(lambda console: print_evaluation(console, "terse", terse), width=100)


def test_tags_that_identify_cases_are_not_shown_as_groups(comparison):
    text = printed(lambda console: print_comparison(console, comparison), width=100)
    assert "\nsex " in text
    assert "\nrecord " not in text


def test_small_groups_carry_an_asterisk(comparison):
    text = printed(lambda console: print_comparison(console, comparison), width=100)
    assert "man (14*)" in text
    assert "a small group" in text


def test_skipped_cases_are_told():
    evaluation = evaluated(skipped={"longer than the context": 3})
    text = printed(lambda console: print_evaluation(console, "GRPO", evaluation), width=80)
    assert "3 cases not asked: longer than the context" in text


def test_responses_stand_beside_each_other_where_there_is_room(comparison):
    def draw(console):
        print_example(console, comparison, comparison.examples()[0])

    wide, narrow = printed(draw, width=120), printed(draw, width=60)
    titles = [[line for line in text.splitlines() if "regular (" in line] for text in (wide, narrow)]
    assert "GRPO (" in titles[0][0]
    assert "GRPO (" not in titles[1][0]


def test_a_response_cannot_steer_the_terminal():
    hostile = RIGHT.replace("B. Pericarditis", "B. \x1b]0;gotcha\x07\x1b[2JPericarditis\x9b31m [red]x[/red]")
    comparison = compare({"a": evaluated(FakeSampler(otherwise=hostile)), "b": evaluated()})
    text = printed(lambda console: print_example(console, comparison, comparison.examples()[0]), width=120)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "[red]x[/red]" in text


def test_clean_keeps_text_and_line_breaks():
    assert clean("37 °C\n\tnaïve\r\x00") == "37 °C\n\tnaïve\ufffd\ufffd"


def test_false_claims_and_invented_findings_are_marked_where_they_stand():
    false = REASONING.replace("for chest pain +3", "for a lie +9, chest pain +3").replace(
        "no fever.\n", "no fever; green hair.\n", 1
    )
    sampler = FakeSampler(otherwise=Grammar().render(false, "B. Pericarditis"))
    layout = layout_of(evaluated(sampler, cases=1, knowledge=NoMigraine()).cases[0].first)
    assert [(finding.text, finding.wrong) for finding in layout.findings] == [
        ("chest pain", ""),
        ("no fever", ""),
        ("green hair", "not in the case"),
    ]
    pericarditis = layout.differential[1]
    assert pericarditis.concluded
    assert [(claim.text, bool(claim.wrong)) for claim in pericarditis.supports] == [
        ("a lie", True),
        ("chest pain", False),
    ]
    assert any("Pericarditis: a lie +9" in remark for remark in layout.remarks)
    assert layout.praise == ()


def test_a_valid_reasoning_is_praised():
    layout = layout_of(evaluated(cases=1, knowledge=NoMigraine()).cases[0].first)
    assert layout.remarks == ()
    assert "3 claims hold" in layout.praise[0]


def test_prose_is_kept_as_written():
    prose = "The pain is sharp.\n\nSo the answer is Pericarditis."
    sampler = FakeSampler(otherwise=Grammar().render(prose, "B. Pericarditis"))
    layout = layout_of(evaluated(sampler, cases=1).cases[0].first)
    assert layout.prose == prose
    assert layout.differential == ()


def test_a_baseline_stands_beside_the_policies_in_words(comparison):
    correct = {case.id: case.id != "case-1" for case in comparison.evaluations["GRPO"].cases}
    last = replace(comparison.evaluations["GRPO"], baselines=(Baseline("naive Bayes", correct),))
    beside = compare({**comparison.evaluations, "GRPO": last})
    alone = printed(lambda console: print_evaluation(console, "GRPO", last), width=200)
    assert "What can be had without reasoning, on the same cases:" in alone
    named = (
        "naive Bayes (what the findings speak for together, as counted in the training cases): 97.5 % right"
    )
    assert f"{named} (95 % interval 87.1 to 99.6)." in alone
    both = printed(lambda console: print_comparison(console, beside), width=200)
    assert "What can be had without reasoning, on the same cases:" in both
    assert named in both
    assert "GRPO against naive Bayes: -2.5 percentage points" in both
    assert "exact McNemar test, two-sided p = 1.00." in both
    assert last.to_json()["baselines"]["naive Bayes"]["accuracy"] == 39 / 40


def test_cases_of_publications_trained_on_are_warned_of():
    cases = [make_case(f"case-{i}", publication="trained on" if i < 3 else "new") for i in range(8)]
    evaluation = evaluated(cases=cases)
    assert evaluation.to_json()["trained_on"] == 3
    warning = "3 cases of 8 are of publications that the run was trained on"
    comparison = compare({"a": evaluation, "b": evaluation})
    assert warning in printed(lambda console: print_evaluation(console, "GRPO", evaluation), width=200)
    assert warning in printed(lambda console: print_comparison(console, comparison), width=200)
    assert "trained on:" not in printed(lambda c: print_evaluation(c, "GRPO", evaluated()), width=200)
