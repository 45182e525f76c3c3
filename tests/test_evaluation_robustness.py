"""Robustness: how options are changed, what counts as the same answer, and which cases are left alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_support import FakeSampler, evaluated, make_case

from grandrounds.evaluation.evaluate import restricted
from grandrounds.evaluation.faithfulness import Asking
from grandrounds.evaluation.robustness import NONE, disturbed, robustness
from grandrounds.evaluation.trials import DisturbedCase, Robustness
from grandrounds.response import Grammar
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.types import Answer, Case, Completion, Group, Message, Prompt

FOUR = {"A": "Gout", "B": "Sepsis", "C": "Mumps", "D": "Croup"}


def four(id: str = "a", **changes) -> Case:
    return replace(Case(id, "Which is it?", Answer("choice", "Sepsis", letter="B"), FOUR), **changes)


class Answers(FakeSampler):
    """Answers by a function of the case."""

    def __init__(self, choose):
        super().__init__()
        self.choose = choose

    def sample(self, prompts, n, settings, key):
        assert (n, settings.temperature) == (1, 0.0)
        for prompt in reversed(prompts):
            text = Grammar().render(None, self.choose(prompt.case))
            yield Group(prompt, (Completion(np.zeros(3, np.int64), np.zeros(3, np.float32), text, "stop"),))


def measured(choose, cases, room=lambda case: True) -> Robustness:
    def ask(case):
        return Prompt(case, np.zeros(1, np.int64), "") if room(case) else None

    asking = Asking(
        Answers(choose), ask, lambda prompt, text: None, Grammar(), SamplingSettings(max_new_tokens=9), seed=0
    )
    return robustness(asking, [Prompt(case, np.zeros(1, np.int64), "") for case in cases])


def shares(found: Robustness, kind, *names):
    return tuple(found.share(kind, name).value for name in names)


def test_a_policy_that_reads_the_options_stays():
    found = measured(
        lambda case: "Sepsis" if "Sepsis" in case.options.values() else NONE, [four("a"), four("b")]
    )
    assert shares(found, "shuffled", "right_before", "right_after", "moved") == (1, 1, 0)
    assert shares(found, "none_added", "right_after", "moved", "chose_none") == (1, 0, 0)
    assert shares(found, "none_instead", "right_before", "right_after", "chose_none") == (1, 1, 1)


def test_a_policy_that_has_learned_a_letter_is_shaken():
    found = measured(lambda case: "B", [four(str(i)) for i in range(20)])
    assert shares(found, "shuffled", "right_before", "right_after", "moved") == (1, 0, 1)
    assert shares(found, "none_instead", "right_after", "chose_none") == (0, 0)


def test_every_option_stays_and_the_right_one_gets_another_letter():
    for i in range(30):
        changed = dict(disturbed(four(str(i)), seed=0))
        shuffled = changed["shuffled"]
        assert sorted(shuffled.options.values()) == sorted(FOUR.values())
        assert list(shuffled.options) == list(FOUR)
        assert shuffled.options[shuffled.gold.letter] == "Sepsis"
        assert shuffled.gold.letter != "B"
    assert changed["none_added"].options == {**FOUR, "E": NONE}
    assert changed["none_added"].gold == four().gold
    assert changed["none_instead"].options == {"A": "Gout", "B": "Mumps", "C": "Croup", "D": NONE}
    assert changed["none_instead"].gold == Answer("choice", NONE, letter="D")


def test_several_right_options_are_followed_to_their_letters():
    several = four(gold=Answer("choices", "Gout; Croup", letters=("A", "D")))
    changed = dict(disturbed(several, seed=0))
    assert list(changed) == ["shuffled"]
    case = changed["shuffled"]
    assert {case.options[letter] for letter in case.gold.letters} == {"Gout", "Croup"}
    found = measured(
        lambda case: ", ".join(k for k, v in case.options.items() if v in ("Gout", "Croup")), [several]
    )
    assert shares(found, "shuffled", "right_before", "right_after", "moved") == (1, 1, 0)


@pytest.mark.parametrize(
    "case",
    [
        four(options={**FOUR, "D": "None of the above"}),
        four(options={**FOUR, "D": "All of these"}),
        four(options={**FOUR, "D": "Both A and C"}),
        four(question=(Message("user", "Which is it? A. Gout B. Sepsis"),)),
        four(options={}, gold=Answer("text", "Sepsis")),
        four(options={"A": "Sepsis"}, gold=Answer("choice", "Sepsis", letter="A")),
    ],
)
def test_options_that_cannot_be_changed_are_left_alone(case):
    assert list(disturbed(case, seed=0)) == []
    assert measured(lambda case: "Sepsis", [case]) == Robustness(())


def test_ordinary_words_do_not_keep_options_from_being_changed():
    options = {**FOUR, "D": "Fracture of both legs and neither arm, any time"}
    assert len(list(disturbed(four(options=options), seed=0))) == 3


def test_what_no_longer_fits_the_context_is_left_out():
    found = measured(lambda case: "Sepsis", [four()], room=lambda case: len(case.options) == 4)
    assert {case.kind for case in found.cases} == {"shuffled", "none_instead"}


def test_results_are_written_and_kept_with_their_cases():
    cases = (
        DisturbedCase("a", "shuffled", "gout", "sepsis", False, True),
        DisturbedCase("b", "shuffled", "gout", None, True, False),
    )
    row = json.loads(json.dumps(Robustness(cases).to_json()))
    assert row["shuffled"] == {
        "of": 2,
        "right_before": 0.5,
        "right_after": 0.5,
        "moved": 1.0,
        "chose_none": 0.0,
    }
    assert row["none_added"] == {"of": 0}
    evaluation = replace(evaluated(cases=[make_case("a"), make_case("b")]), robustness=Robustness(cases))
    assert evaluation.to_json()["robustness"]["cases"][0]["case_id"] == "a"
    assert restricted(evaluation, {"b"}, "too long").robustness.cases == cases[1:]
