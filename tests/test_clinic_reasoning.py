"""The clinic's demonstrations, and the checker that tells a thorough reasoning from a hurried one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from grandrounds.cases.ask import gold_text
from grandrounds.cases.check import Knowledge, ReasoningCheck
from grandrounds.domains.clinic.book import clinic_book
from grandrounds.recipe import CasesRecipe
from grandrounds.response.outline import Candidate, Claim, Outline, parse_outline, render_outline
from grandrounds.types import Case, CaseBook


@pytest.fixture(scope="module")
def book() -> CaseBook:
    return clinic_book(CasesRecipe(clinic_train=1500, clinic_test=20), seed=5)


def outline_of(case: Case) -> Outline:
    assert case.demonstration is not None
    return parse_outline(case.demonstration.reasoning)


def is_thorough(case: Case) -> bool:
    outline = outline_of(case)
    return len(outline.findings) == len(case.facts) and len(outline.differential) == len(case.options)


@pytest.fixture(scope="module")
def example(book: CaseBook) -> Case:
    """A thorough demonstration that names a claim for and a claim against its conclusion's runner-up."""
    return next(
        case
        for case in book.train
        if is_thorough(case) and all(c.supports for c in outline_of(case).differential[:2])
    )


def check(book: CaseBook, case: Case, outline: Outline) -> ReasoningCheck:
    verdict = book.knowledge.check(case, outline)
    assert isinstance(verdict, ReasoningCheck)
    assert (verdict.score == 1) == verdict.valid
    return verdict


def test_clinic_brings_its_own_knowledge(book: CaseBook) -> None:
    assert isinstance(book.knowledge, Knowledge)


def test_every_thorough_demonstration_is_valid_and_right(book: CaseBook) -> None:
    thorough = [case for case in book.train if is_thorough(case)]
    assert 0.35 <= len(thorough) / len(book.train) <= 0.45
    for case in thorough:
        assert case.demonstration is not None
        assert check(book, case, outline_of(case)).valid, case.demonstration.reasoning
        assert case.demonstration.answer == gold_text(case)


def test_hurried_demonstrations_are_true_but_incomplete_and_often_wrong(book: CaseBook) -> None:
    hurried = [case for case in book.train if not is_thorough(case)]
    right = 0
    for case in hurried:
        assert case.demonstration is not None
        verdict = check(book, case, outline_of(case))
        assert not verdict.valid
        assert not verdict.complete
        assert verdict.true_claims == verdict.claims
        assert verdict.conclusion_follows
        right += case.demonstration.answer == gold_text(case)
    assert 0.4 <= right / len(hurried) <= 0.6


def test_demonstrations_answer_what_they_conclude_in_the_outline_grammar(book: CaseBook) -> None:
    for case in book.train:
        assert case.demonstration is not None
        outline = outline_of(case)
        lines = case.demonstration.reasoning.splitlines()
        told = [line for line in lines if not line.startswith("Shortlist:")]
        assert render_outline(outline).splitlines() == told
        assert case.demonstration.answer == outline.conclusion
        assert outline.conclusion in case.options.values()


def test_hurried_demonstrations_show_early(book: CaseBook) -> None:
    """Reinforcement learning can only find the thorough way where the two part before the conclusion."""
    for case in book.train:
        assert case.demonstration is not None
        begins_hurried = case.demonstration.reasoning.startswith("Shortlist:")
        one_finding = len(outline_of(case).findings) == 1
        assert (begins_hurried or one_finding) != is_thorough(case)


def other_finding(outline: Outline) -> Outline:
    return replace(outline, findings=(*outline.findings, "hiccups"))


def finding_twice(outline: Outline) -> Outline:
    return replace(outline, findings=(*outline.findings, outline.findings[0]))


def missing_finding(outline: Outline) -> Outline:
    return replace(outline, findings=outline.findings[:-1])


def first_candidate(outline: Outline, change: Callable[[Candidate], Candidate]) -> Outline:
    return replace(outline, differential=(change(outline.differential[0]), *outline.differential[1:]))


def wrong_points(outline: Outline) -> Outline:
    def change(candidate: Candidate) -> Candidate:
        claim = candidate.supports[0]
        more = Claim(claim.finding, (claim.points or 0) + 1)
        return replace(candidate, supports=(more, *candidate.supports[1:]), total=(candidate.total or 0) + 1)

    return first_candidate(outline, change)


def no_points(outline: Outline) -> Outline:
    return first_candidate(
        outline, lambda c: replace(c, supports=tuple(Claim(claim.finding) for claim in c.supports))
    )


def claim_twice(outline: Outline) -> Outline:
    def change(candidate: Candidate) -> Candidate:
        claim = candidate.supports[0]
        return replace(
            candidate,
            supports=(claim, *candidate.supports),
            total=(candidate.total or 0) + (claim.points or 0),
        )

    return first_candidate(outline, change)


def unknown_claim(outline: Outline) -> Outline:
    return first_candidate(
        outline,
        lambda c: replace(c, supports=(*c.supports, Claim("hiccups", 2)), total=(c.total or 0) + 2),
    )


def wrong_total(outline: Outline) -> Outline:
    return first_candidate(outline, lambda c: replace(c, total=(c.total or 0) + 1))


def missing_option(outline: Outline) -> Outline:
    return replace(outline, differential=outline.differential[1:])


def option_twice(outline: Outline) -> Outline:
    return replace(outline, differential=(*outline.differential, outline.differential[0]))


def foreign_option(outline: Outline) -> Outline:
    return replace(outline, differential=(*outline.differential, Candidate("Scurvy", total=0)))


def wrong_total_repeated(outline: Outline) -> Outline:
    first, *others = [candidate.total or 0 for candidate in outline.differential]
    totals = ", ".join(map(str, [first + 1, *others]))
    return replace(outline, check=f"totals {totals}; {outline.conclusion} leads")


def wrong_leader(outline: Outline) -> Outline:
    last = min(outline.differential, key=lambda candidate: candidate.total or 0)
    return replace(outline, check=(outline.check or "").replace(outline.conclusion or "", last.name))


def no_check(outline: Outline) -> Outline:
    return replace(outline, check=None)


def empty_check(outline: Outline) -> Outline:
    return replace(outline, check="not done")


def other_conclusion(outline: Outline) -> Outline:
    return replace(outline, conclusion=min(outline.differential, key=lambda c: c.total or 0).name)


def no_conclusion(outline: Outline) -> Outline:
    return replace(outline, conclusion=None)


BROKEN = (
    other_finding, finding_twice, missing_finding, wrong_points, no_points, claim_twice, unknown_claim,
    wrong_total, missing_option, option_twice, foreign_option, wrong_total_repeated,
    wrong_leader, no_check, empty_check, other_conclusion, no_conclusion,
)  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda function: function.__name__)
def test_one_fault_makes_a_reasoning_invalid(
    book: CaseBook, example: Case, broken: Callable[[Outline], Outline]
) -> None:
    good = outline_of(example)
    verdict = check(book, example, broken(good))
    assert not verdict.valid
    assert verdict.score < check(book, example, good).score


def test_empty_reasoning_claims_nothing(book: CaseBook, example: Case) -> None:
    verdict = check(book, example, parse_outline(""))
    assert (verdict.claims, verdict.score, verdict.conclusion_follows) == (0, 0.0, None)


def test_false_claims_are_named_for_the_reader(book: CaseBook, example: Case) -> None:
    assert check(book, example, other_finding(outline_of(example))).false_claims == ("hiccups",)


def test_case_of_letters_does_not_matter(book: CaseBook, example: Case) -> None:
    assert example.demonstration is not None
    assert check(book, example, parse_outline(example.demonstration.reasoning.upper())).valid


def test_reasoning_of_another_case_is_not_valid(book: CaseBook) -> None:
    thorough = [case for case in book.train if is_thorough(case)][:60]
    for one, other in pairwise(thorough):
        if one.facts != other.facts:
            assert not check(book, other, outline_of(one)).valid
