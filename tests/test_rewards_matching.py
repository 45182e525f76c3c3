"""Whether an answer is the gold one, and the published graders' mistakes that are not repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewards_support import OPTIONS, choice_case, open_case

from grandrounds.cases.labels import as_labels
from grandrounds.rewards import judge
from grandrounds.rewards.numbers import read_number
from grandrounds.rewards.text import mentioned
from grandrounds.types import Answer, Case

FORMS_OF_B = [
    "B",
    "b",
    "(B)",
    "B.",
    "[B]",
    "**B**",
    "Answer: B",
    "The answer is B.",
    "letter: B",
    "option B is correct",
    "B. Pericarditis",
    "B: pericarditis",
    "b) Pericarditis",
    "B - Pericarditis",
    "(B) Pericarditis",
    "Pericarditis",
    "PERICARDITIS.",
    "the diagnosis is pericarditis",
    "Pericarditis (B)",
    "Pericarditis, B",
    "B\nPericarditis",
    "The answer is\n\nB",
    "Pericarditis\n(B)",
    "B. Acute pericarditis",
    "B. Pericarditiss",
    "B, because of the rub",
    "Pericarditis, because he leans forward",
    "I think B",
]


@pytest.mark.parametrize("answer", FORMS_OF_B)
def test_the_right_option_is_recognised_in_every_form(answer: str) -> None:
    verdict = judge(answer, choice_case("B"))
    assert (verdict.correct, verdict.score, verdict.given) == (True, 1.0, "B")


@pytest.mark.parametrize(
    ("answer", "layer"),
    [
        ("B. Myocarditis", "letter and text disagree"),
        ("B. Lupus", "letter and text disagree"),
        ("B. Not pericarditis", "letter and text disagree"),
        ("A, B", "several letters"),
        ("B and C", "several letters"),
        ("B\nC", "several letters"),
        ("B. Pericarditis\nA. Myocarditis", "letter and text disagree"),
        ("Pericarditis or myocarditis", "no option"),
        ("not pericarditis", "no option"),
        ("Boils", "no option"),
        ("F. Pericarditis", "no such letter"),
        ("", "no answer"),
        ("B " * 2000, "too long"),
    ],
)
def test_what_contradicts_itself_or_hedges_is_no_answer(answer: str, layer: str) -> None:
    for letter in OPTIONS:
        verdict = judge(answer, choice_case(letter))
        assert (verdict.correct, verdict.layer, verdict.given) == (False, layer, None)


def test_a_word_is_not_its_first_letter() -> None:
    assert not judge("Diabetes insipidus", choice_case("D")).correct
    assert not judge("Bronchitis", choice_case("B")).correct
    assert not judge("A fever", choice_case("A")).correct


def test_an_option_that_looks_like_a_letter_with_text_is_read_as_its_text() -> None:
    options = {"A": "E. coli", "B": "C. difficile", "C": "P. aeruginosa", "E": "S. aureus"}
    assert judge("E. coli", choice_case("A", options)).given == "A"
    assert judge("P. aeruginosa (C)", choice_case("C", options)).given == "C"
    assert judge("B. C. difficile", choice_case("B", options)).given == "B"


def test_signs_and_reasons_within_options_are_part_of_them() -> None:
    options = {"A": "-0.45", "B": "0.45", "C": "No, because it is large", "D": "No, because it is small"}
    assert judge("A. -0.45", choice_case("A", options)).correct
    assert judge("B. -0.45", choice_case("B", options)).given is None
    assert judge("C. No, because it is large", choice_case("C", options)).correct
    assert judge("C. No, because it is small", choice_case("C", options)).given is None


def test_what_an_answer_means_does_not_depend_on_the_gold_answer() -> None:
    for answer in ("B. Pericarditis", "A. Pericarditis", "Pericarditis", "A or B", "C\nB", "acute MI"):
        assert len({judge(answer, choice_case(letter)).given for letter in OPTIONS}) == 1


ALS = open_case(Answer("text", "Amyotrophic lateral sclerosis", synonyms=("Lou Gehrig's disease",)))


@pytest.mark.parametrize(
    ("answer", "layer"),
    [
        ("amyotrophic lateral sclerosis.", "normalised"),
        ("Amyotrophic\nlateral sclerosis", "normalised"),
        ("The diagnosis is ALS", "abbreviation"),
        ("Amyotrophic lateral sclerosis (ALS)", "abbreviation"),
        ("Lou Gehrig disease", "synonym"),
        ("lateral sclerosis, amyotrophic", "similarity"),
        ("Amyotrophic lateral sclerosys", "similarity"),
    ],
)
def test_the_layer_that_decided_is_recorded(answer: str, layer: str) -> None:
    verdict = judge(answer, ALS)
    assert (verdict.correct, verdict.layer) == (True, layer)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("not ALS", "Amyotrophic lateral sclerosis"),
        ("sclerosis", "Amyotrophic lateral sclerosis"),
        ("ALS or MS", "Amyotrophic lateral sclerosis"),
        ("Hyperthyroidism", "Hypothyroidism"),
        ("Hyperkalemia", "Hypercalcemia"),
        ("Neurofibromatosis type 1", "Neurofibromatosis type 2"),
        ("Chronic pericarditis", "Acute pericarditis"),
        ("Left bundle branch block", "Right bundle branch block"),
        ("Cushing disease", "Cushing syndrome"),
        ("Hepatitis B", "Hepatitis A"),
        ("Nonfunctioning adenoma of no size", "Functioning adenoma"),
    ],
)
def test_similarity_never_forgives_what_changes_the_meaning(answer: str, gold: str) -> None:
    assert not judge(answer, open_case(Answer("text", gold))).correct


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Haemolytic-uraemic syndrome", "Hemolytic uremic syndrome"),
        ("Sjogren's syndrome", "Sjögren syndrome"),
        ("Neurofibromatosis type II", "Neurofibromatosis, type 2"),
        ("Crohn", "Crohn disease"),
        ("NF1", "Neurofibromatosis type 1"),
        ("non-Hodgkin lymphoma", "Non-Hodgkin's lymphoma"),
    ],
)
def test_spellings_of_one_name_are_one(answer: str, gold: str) -> None:
    assert judge(answer, open_case(Answer("text", gold))).correct


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", (12, None)),
        ("1,234.5 mg", (1234.5, "mg")),
        ("1.234,5", (1234.5, None)),
        ("12 345", (12345, None)),
        ("0,5", (0.5, None)),
        ("1,234", (1234, None)),
        ("−3 mmol/L", (-3, "mmol/L")),
        ("1.2e-3", (0.0012, None)),
        ("1.2 × 10^-3 g", (0.0012, "g")),
        ("10⁵", (1e5, None)),
        ("3/4", (0.75, None)),
        ("12 %", (12, "%")),
        ("about 5 mg daily", (5, "mg")),
        ("x = 5", (5, None)),
        ("5-7", None),
        ("5 ± 1", None),
        ("2 h 30 min", None),
        ("CD4", None),
        ("24.5 kg/m²", (24.5, "kg/m²")),
        ("24.5 kg/m^2", (24.5, "kg/m²")),
        ("24.5 kg m^-2", (24.5, "kg m⁻²")),
        ("90 mL/min/1.73 m2", (90, "mL/min/m²")),
        ("none", None),
        ("9" * 400, None),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, number: tuple[float, str | None] | None) -> None:
    assert read_number(text) == (pytest.approx(number[0]), number[1]) if number else read_number(text) is None


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("1.2 g", True),
        ("1200", True),
        ("1,200 mg", True),
        ("1195 mg", True),
        ("1200000 µg", True),
        ("1180 mg", False),
        ("1.2 mg", False),
        ("-1200 mg", False),
        ("1200 mL", False),
        ("1200 tablets", False),
        ("1200 mg^9^9^9^9^9", False),
        ("1200 mg**9**9**9**9", False),
        ("1.2 dm^3*g/dm^3", True),
    ],
)
def test_a_number_is_compared_in_the_gold_unit_within_tolerance(answer: str, correct: bool) -> None:
    gold = Answer("number", "1200 mg", value=1200, unit="mg", tolerance=0.01)
    assert judge(answer, open_case(gold)).correct is correct


def test_percent_is_a_unit_and_no_unit_is_asked_of_a_bare_number() -> None:
    assert judge("0.12", open_case(Answer("number", "12", value=12, unit="%"))).correct is False
    assert judge("12", open_case(Answer("number", "12", value=12, unit="%"))).correct
    assert judge("12%", open_case(Answer("number", "12", value=12))).correct
    assert judge(
        "90 mL/min/1.73m²", open_case(Answer("number", "90", value=90, unit="mL/min/1.73 m2"))
    ).correct
    assert judge("38 °C", open_case(Answer("number", "100.4", value=100.4, unit="°F"))).correct


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("Yes, because it does", "yes"),
        ("The answer is no", "no"),
        ("Maybe", "maybe"),
        ("yes or no", None),
        ("Yes, no", None),
        ("not yes", None),
        ("No evidence of that", None),
    ],
)
def test_a_label_is_one_word_and_hedging_is_none(answer: str, label: str | None) -> None:
    assert judge(answer, open_case(Answer("label", "yes"))).given == label
    assert judge(answer, open_case(Answer("label", "yes"))).correct is (label == "yes")


def test_mentions_that_are_denied_or_within_longer_names_are_none() -> None:
    names = {"h": "Hypertension", "p": "Pulmonary hypertension", "f": "Fever", "c": "Cough"}
    assert mentioned("Pulmonary hypertension fits. No fever. Cough is unlikely.", names) == ["p"]
    assert mentioned("No rash. Fever, then cough.", names) == ["f", "c"]


@given(st.text(max_size=200))
def test_no_answer_makes_the_judge_raise(text: str) -> None:
    for gold in (Answer("text", "x"), Answer("number", "5", value=5, unit="mg"), Answer("label", "yes")):
        judge(text, open_case(gold))
    judge(text, choice_case())


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("low", "low; normal; high", False),
        ("low", "low, normal, high", False),
        ("low", "low, as 3.1 is below 3.5", True),
        ("due", "due", True),
        ("due", "not due", False),
        ("due", "due, not due", False),
        ("not due", "not due, for want of notice", True),
        ("not due", "due", False),
    ],
)
def test_a_source_s_own_labels_are_known(gold: str, answer: str, right: bool) -> None:
    """Listing them all is no answer, and one that holds another's words is not it."""
    labels = ("low", "normal", "high") if gold == "low" else ("due", "not due")
    asked = as_labels(
        [Case(str(place), "?", Answer("label", label)) for place, label in enumerate(labels)], ()
    )
    case = next(case for case in asked if case.gold.text == gold)
    assert judge(answer, case).correct is right
