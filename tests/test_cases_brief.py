"""Short demonstrations."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from grandrounds.cases.brief import brief
from grandrounds.cases.load import load_cases
from grandrounds.recipe import CasesRecipe
from grandrounds.response.outline import parse_outline
from grandrounds.types import Answer, Case, Demonstration

WEIGHED = """\
Findings: older; fever; rash; no cough.
Influenza: weighing older 0, fever +3, rash -1, no cough 0; total 2.
Meningitis: weighing older -1, fever +3, rash +4, no cough 0; total 6.
Check: totals 2, 6; Meningitis leads.
Conclusion: Meningitis."""


def _case(demonstration: Demonstration | None, facts: tuple[str, ...] = (), kind: str = "text") -> Case:
    return Case("1", "What is it?", Answer(kind, "Pericarditis"), facts=facts, demonstration=demonstration)


def test_the_findings_that_told_most_are_kept() -> None:
    made = brief(_case(Demonstration(WEIGHED, "Meningitis")))
    assert made == Demonstration("Findings: rash; fever.\nConclusion: Meningitis.", "Meningitis")


def test_a_wrong_conclusion_stays_the_demonstration_s_own() -> None:
    wrong = WEIGHED.replace("Conclusion: Meningitis", "Conclusion: Influenza")
    made = brief(_case(Demonstration(wrong, "Influenza")))
    assert made == Demonstration("Findings: fever.\nConclusion: Influenza.", "Influenza")


def test_prose_keeps_its_first_sentence() -> None:
    made = brief(
        _case(Demonstration("ST rises in all leads,\ne.g. in V1. Then he was well.", "B. Pericarditis"))
    )
    assert made == Demonstration(
        "ST rises in all leads, e.g. in V1.\nConclusion: B. Pericarditis.", "B. Pericarditis"
    )


def test_without_a_demonstration_the_facts_and_the_gold_answer_make_one() -> None:
    made = brief(_case(None, ("chest pain", "rub: loud", "fever")))
    assert made == Demonstration("Findings: chest pain; rub loud.\nConclusion: Pericarditis.", "Pericarditis")
    assert brief(_case(None)) == Demonstration("Conclusion: Pericarditis.", "Pericarditis")
    assert brief(_case(None, kind="none")) is None


@given(st.text(), st.text(min_size=1), st.lists(st.text(min_size=1)))
def test_any_text_gives_a_demonstration_with_the_same_answer(
    reasoning: str, answer: str, facts: list[str]
) -> None:
    made = brief(_case(Demonstration(reasoning, answer), tuple(facts)))
    assert made is not None
    assert made.answer == answer


def test_a_book_is_shortened_for_training_and_left_alone_otherwise() -> None:
    recipe = CasesRecipe(source="clinic", clinic_train=40, clinic_test=10)
    full = load_cases(recipe, seed=0)
    short = load_cases(recipe.model_copy(update={"demonstrations": "brief"}), seed=0)
    for before, after in zip(full.train, short.train, strict=True):
        assert before.demonstration is not None
        assert after.demonstration is not None
        assert after.demonstration.answer == before.demonstration.answer
        outline = parse_outline(after.demonstration.reasoning)
        assert outline.conclusion == before.demonstration.answer
        assert set(outline.findings) <= set(before.facts)
    assert short.test == full.test


def test_own_cases_without_a_reasoning_column_can_be_warmed_up_on(tmp_path: Path) -> None:
    rows = "".join(f'{{"question": "What is {n}?", "answer": "It is {n}"}}\n' for n in range(20))
    (tmp_path / "cases.jsonl").write_text(rows, encoding="utf-8")
    book = load_cases(CasesRecipe(source=str(tmp_path / "cases.jsonl"), demonstrations="brief"), seed=0)
    assert all(case.demonstration and case.demonstration.answer == case.gold.text for case in book.train)
