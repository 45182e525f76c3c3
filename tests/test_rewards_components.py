"""The built-in rewards, one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from rewards_support import OPTIONS, answered, choice_case, open_case, sample, score

from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.response import Grammar
from grandrounds.rewards import build_rewards
from grandrounds.rewards.knowledge import TableKnowledge
from grandrounds.types import Answer

FACTS = ("sharp chest pain", "better when leaning forward", "no fever", "friction rub")
CASE = choice_case(facts=FACTS)
GOOD = """\
Findings: sharp chest pain; no fever; friction rub.
Myocarditis: for sharp chest pain; against no fever.
Pericarditis: for friction rub, sharp chest pain.
Conclusion: Pericarditis."""


def test_strict_format_wants_one_reasoning_one_answer_and_nothing_else() -> None:
    assert score("format", answered(CASE, "r", "B")) == 1
    assert score("format", sample(CASE, "Hm. " + Grammar().render("r", "B"))) == 0
    assert score("format", sample(CASE, "<answer>B</answer>")) == 0


def test_soft_format_pays_for_each_part() -> None:
    assert score("format", answered(CASE, "r", "B"), soft=True) == 1
    assert score("format", sample(CASE, "Hm. " + Grammar().render("r", "B")), soft=True) == 0.75
    assert score("format", sample(CASE, "<answer>B</answer>"), soft=True) == 0.25
    assert score("format", sample(CASE, ""), soft=True) == 0


@pytest.mark.parametrize(
    ("reasoning", "answer", "value"),
    [
        ("Conclusion: Pericarditis.", "B. Pericarditis", 1),
        ("Conclusion: B.", "Pericarditis", 1),
        ("Conclusion: Pericarditis.", "A. Myocarditis", 0),
        ("It may be myocarditis. The most likely diagnosis is therefore acute pericarditis.", "B", 1),
        ("Therefore pericarditis, not myocarditis, fits.", "B", 1),
        ("Therefore pericarditis, not myocarditis, fits.", "A", 0),
        ("Pain and sweat.", "B", 0),
        ("Conclusion: Pericarditis.", "", 0),
    ],
)
def test_consistency_compares_the_answer_with_what_was_concluded(
    reasoning: str, answer: str, value: float
) -> None:
    assert score("consistency", answered(CASE, reasoning, answer)) == value


def test_consistency_holds_for_open_answers_too() -> None:
    text = open_case(Answer("text", "Marfan syndrome"))
    assert score("consistency", answered(text, "Conclusion: Marfan syndrome.", "Marfan syndrome")) == 1
    assert score("consistency", answered(text, "Conclusion: Marfan syndrome.", "Ehlers-Danlos syndrome")) == 0
    number = open_case(Answer("number", "5", value=5, unit="mg"))
    assert score("consistency", answered(number, "Conclusion: 5 mg.", "0.005 g")) == 1
    assert score("consistency", answered(number, "Conclusion: 6 mg.", "5 mg")) == 0
    label = open_case(Answer("label", "yes"))
    assert score("consistency", answered(label, "Conclusion: yes.", "yes")) == 1
    assert score("consistency", answered(label, "Therefore, the answer is no.", "yes")) == 0


def test_evidence_pays_for_findings_of_the_case_and_charges_for_invented_ones() -> None:
    assert score("evidence", answered(CASE, GOOD, "B")) == 1
    invented = GOOD.replace("friction rub, sharp", "ST elevation, sharp")
    assert score("evidence", answered(CASE, invented, "B")) == pytest.approx((4 - 2) / 4)
    assert score("evidence", answered(CASE, "Findings: a; b; c.", "B")) == 0


def test_evidence_is_not_had_for_one_safe_finding() -> None:
    assert score("evidence", answered(CASE, "Findings: friction rub.", "B")) == pytest.approx(1 / 3)


def test_evidence_tells_a_finding_from_its_absence() -> None:
    assert score("evidence", answered(CASE, "Findings: fever.", "B"), at_least=1) == 0
    assert score("evidence", answered(CASE, "Findings: no friction rub.", "B"), at_least=1) == 0
    assert score("evidence", answered(CASE, "Findings: absence of fever.", "B"), at_least=1) == 1


def test_evidence_reads_the_question_where_there_are_no_facts() -> None:
    case = choice_case()
    assert score("evidence", answered(case, "Findings: chest pain; no cough; no fever.", "B")) == 1
    assert score("evidence", answered(case, "Findings: cough.", "B")) == 0


def test_evidence_in_prose_counts_the_facts_mentioned() -> None:
    prose = "The sharp chest pain and the friction rub, with no fever, speak for it."
    assert score("evidence", answered(CASE, prose, "B")) == 1
    assert score("evidence", answered(CASE, "It is obvious.", "B")) == 0
    assert score("evidence", answered(choice_case(), prose, "B")) is None


def test_coverage_is_the_share_of_options_weighed() -> None:
    assert score("coverage", answered(CASE, GOOD, "B")) == pytest.approx(2 / 5)
    prose = (
        "Myocarditis, pericarditis, acute myocardial infarction, diabetes mellitus; pulmonary hypertension?"
    )
    assert score("coverage", answered(CASE, prose, "B")) == 1
    assert score("coverage", answered(CASE, "Diabetes mellitus: for none.", "B")) == 0
    assert score("coverage", answered(open_case(Answer("text", "x")), "r", "x")) is None


def test_length_follows_the_published_formula() -> None:
    lengths = {50: 0.0, 80: 0.0, 90: -0.5, 100: -1.0, 120: -1.0}
    for tokens, value in lengths.items():
        assert score("length", answered(CASE, "r", "B", length=tokens)) == pytest.approx(value)


def test_repetition_costs_only_where_phrases_go_round() -> None:
    assert score("repetition", answered(CASE, GOOD, "B")) == 0
    assert score("repetition", answered(CASE, "it is what it is and " * 50, "B")) < -0.9
    assert score("repetition", answered(CASE, "", "B")) == 0


TABLE = """\
condition,finding,relation
Pericarditis,sharp chest pain,supports
Pericarditis,friction rub,supports
Pericarditis,crackles,contradicts
Myocarditis,fever,supports
Myocarditis,sharp chest pain,supports
"""


def test_validity_checks_claims_against_a_table(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    options = {"A": OPTIONS["A"], "B": OPTIONS["B"]}
    case = choice_case("B", options, facts=FACTS)
    spec = RewardRecipe(options={"table": "table.csv"})
    component = build_rewards({"validity": spec}, base=tmp_path).parts["validity"].component
    right = answered(case, GOOD.replace("Conclusion: P", "Conclusion: B. P"), "B")
    swapped = answered(case, GOOD.replace("Conclusion: Peri", "Conclusion: Myo"), "B")
    false = answered(case, GOOD.replace("for friction rub", "for fever"), "B")
    scores = component.scores([right, swapped, false, answered(case, "Pain.", "B")])
    # The false claim also leaves out the rub: 3 of 4 claims, the conclusion follows, not complete.
    assert [score.value for score in scores] == pytest.approx([1.0, 0.75, 0.5 * 3 / 4 + 0.25, 0.0])
    assert scores[2].note == ["Pericarditis: for fever"]


def test_a_table_may_give_strengths_and_be_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"condition": "X", "finding": "no fever", "strength": -2}\n')
    knowledge = TableKnowledge.read(path)
    assert knowledge.strength("x", "no fever") == -2
    assert knowledge.strength("x", "fever") == 2
    assert knowledge.strength("y", "fever") is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "condition,finding,relation\nX,fever,causes\n", "t.csv:2"),
        ("t.csv", "condition,finding\nX,fever\n", "t.csv:2"),
        ("t.csv", "condition,finding,relation\nX,,supports\n", "no finding"),
        ("t.csv", "condition,finding,relation\n", "no rows"),
        ("t.csv", "condition,finding,strength\nX,f,1\nX,f,2\n", "t.csv:3"),
        ("t.jsonl", '{"condition": "X"\n', "t.jsonl:1"),
        ("t.txt", "x", "neither"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RewardError, match=said):
        build_rewards({"validity": RewardRecipe(options={"table": name})}, base=tmp_path)


def test_behaviour_pays_for_one_behaviour_and_says_where() -> None:
    weighed = "Myocarditis is unlikely. Pericarditis would explain the rub."
    spec = {"of": "alternatives"}
    assert score("behaviour", answered(CASE, weighed, "B"), **spec) == 1
    assert score("behaviour", answered(CASE, "It is B.", "B"), **spec) == 0


def test_a_behaviour_that_nothing_detects_is_an_error() -> None:
    with pytest.raises(RewardError, match="no behaviour `alternative`") as caught:
        score("behaviour", answered(CASE, GOOD, "B"), of="alternative")
    assert caught.value.hint == "Did you mean `alternatives`?"
