"""The clinic with an open textbook: options with their pages, demonstrations that compare, and their check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grandrounds.cases.ask import ask
from grandrounds.cases.check import ReasoningCheck
from grandrounds.cases.load import load_cases
from grandrounds.domains.clinic.textbook import TEXTBOOK, page
from grandrounds.domains.clinic.world import world
from grandrounds.evaluation.robustness import disturbed
from grandrounds.recipe import CasesRecipe, PromptRecipe
from grandrounds.response.outline import parse_outline
from grandrounds.types import Answer, Case, CaseBook

SIZES = {"clinic_train": 400, "clinic_test": 100}


@pytest.fixture(scope="module")
def book() -> CaseBook:
    return load_cases(CasesRecipe(**SIZES, clinic_textbook=4), seed=3)


def checked(book: CaseBook, case: Case, reasoning: str) -> ReasoningCheck:
    return book.knowledge.check(case, parse_outline(reasoning))


def test_a_page_has_the_most_frequent_findings_and_no_rare_one() -> None:
    cluster, row = world().by_condition["pericarditis"]
    assert page(cluster, row, 2) == ("pain eased when sitting forward", "sharp chest pain")
    frequencies = cluster.probability[row, [cluster.column[finding] for finding in page(cluster, row, 99)]]
    assert len(frequencies) == 6
    assert frequencies.min() == pytest.approx(0.2)
    assert (np.diff(frequencies) <= 0).all()


def test_patients_are_those_of_the_closed_book_in_the_words_of_the_textbook(book: CaseBook) -> None:
    closed = load_cases(CasesRecipe(**SIZES), seed=3)
    for name, cases in {"train": book.train, "test": book.test, **book.held_out}.items():
        others = {"train": closed.train, "test": closed.test, **closed.held_out}[name]
        assert [(case.facts, case.gold, case.options) for case in cases] == [
            (case.facts, case.gold, case.options) for case in others
        ]
        if name != "unseen phrasings":
            assert all(fact in case.question for case in cases for fact in case.facts[2:])
    unseen = zip(book.held_out["unseen phrasings"], closed.held_out["unseen phrasings"], strict=True)
    assert all(case.question == other.question for case, other in unseen)


def test_each_option_is_asked_with_its_page(book: CaseBook) -> None:
    case = book.test[0]
    lines = ask(case, PromptRecipe(system=""))[-1].content.split("\n")[-4:]
    assert lines == [
        f"{letter}. {name} ({', '.join(case.columns[TEXTBOOK][name])})"
        for letter, name in case.options.items()
    ]


def test_notes_stay_with_their_options_when_these_are_shuffled(book: CaseBook) -> None:
    case = book.test[0]
    shuffled = next(other for name, other in disturbed(case, 0) if name == "shuffled")
    before, after = (
        ask(one, PromptRecipe(system=""))[-1].content.split("\n")[-4:] for one in (case, shuffled)
    )
    assert before != after
    assert sorted(line[3:] for line in before) == sorted(line[3:] for line in after)


def test_demonstrations_are_true_follow_and_are_often_too_hurried(book: CaseBook) -> None:
    checks = [checked(book, case, case.demonstration.reasoning) for case in book.train if case.demonstration]
    assert len(checks) == 400
    assert all(check.true_claims == check.claims and check.conclusion_follows for check in checks)
    assert 0.4 < np.mean([check.complete for check in checks]) < 0.6
    right = np.mean(
        [case.demonstration.answer == case.gold.text for case in book.train if case.demonstration]
    )
    assert 0.55 < right < 0.8


def test_thorough_demonstrations_are_mostly_right(book: CaseBook) -> None:
    thorough = [
        case
        for case in book.train
        if case.demonstration and checked(book, case, case.demonstration.reasoning).complete
    ]
    right = np.mean([case.demonstration.answer == case.gold.text for case in thorough if case.demonstration])
    assert right > 0.85


@pytest.fixture(scope="module")
def cellulitis(book: CaseBook) -> Case:
    pages = {
        name: page(*world().by_condition[name.lower()], 4)
        for name in ("Cellulitis", "Malaria", "Kidney infection", "Influenza")
    }
    return replace(
        book.test[0],
        options=dict(zip("ABCD", pages, strict=True)),
        facts=("older", "man", "chills", "spreading red skin", "no muscle aches"),
        columns={TEXTBOOK: pages, "shortcuts": ()},
    )


WHOLE = (
    "Cellulitis: for chills, spreading red skin.\nMalaria: for chills.\nKidney infection: for chills.\n"
    "Influenza: against no muscle aches.\nConclusion: Cellulitis."
)


def test_a_thorough_and_true_reasoning_is_valid(book: CaseBook, cellulitis: Case) -> None:
    check = checked(book, cellulitis, WHOLE)
    assert check.valid
    assert check.claims == 5


@pytest.mark.parametrize(
    ("said", "instead", "fault"),
    [
        ("for chills, spreading", "for headache, chills, spreading", "false_claims"),  # not the case's
        ("Malaria: for chills", "Malaria: for chills, spreading red skin", "false_claims"),  # not on its page
        ("against no muscle aches", "for no muscle aches", "false_claims"),  # on the wrong side
        ("Influenza: against no muscle aches", "Gout: for none", "false_claims"),  # no option
        ("Malaria: for chills", "Malaria: for none", "complete"),  # left out
        ("Malaria: for chills.\n", "", "complete"),  # an option left out
        ("Conclusion: Cellulitis", "Conclusion: Malaria", "conclusion_follows"),
    ],
)
def test_each_fault_of_a_reasoning_is_found(
    book: CaseBook, cellulitis: Case, said: str, instead: str, fault: str
) -> None:
    check = checked(book, cellulitis, WHOLE.replace(said, instead))
    assert not check.valid
    found = {
        "false_claims": bool(check.false_claims),
        "complete": not check.complete,
        "conclusion_follows": check.conclusion_follows is False,
    }
    assert found[fault], check


def test_counting_matches_with_the_textbook_is_a_baseline_of_open_cases_alone(
    book: CaseBook, cellulitis: Case
) -> None:
    right = replace(cellulitis, gold=Answer("choice", "Cellulitis", letter="A"))
    tied = replace(right, facts=("older", "man", "chills"))
    assert book.knowledge.baselines([right])["textbook"] == {right.id: True}
    assert book.knowledge.baselines([tied])["textbook"] == {right.id: False}
    closed = replace(right, columns={"shortcuts": ()})
    assert "textbook" not in book.knowledge.baselines([closed])


def test_a_book_made_again_from_what_was_fitted_has_its_textbook(book: CaseBook) -> None:
    again = load_cases(CasesRecipe(**SIZES), seed=9, fitted=book.fitted)
    assert [case.option_notes for case in again.test] == [case.option_notes for case in book.test]
