"""The reward `citations`: what the case has counts however it is written, and what is invented costs."""

from __future__ import annotations

import pytest
from rewards_support import answered, open_case, score

from grandrounds.domains.law.citing import citations_in
from grandrounds.errors import RewardError
from grandrounds.types import Answer

CONTRACT = """4.1 The tenant pays rent on the first of the month.
4.2 The tenant shall (a) keep the premises clean and (b) repair damage.
12. Termination. Notice is given under Section 13(3)."""
STATUTE = "Processing is lawful under Article 6(1)(f) of the GDPR. See also § 433 BGB and 15 U.S.C. § 78j(b)."
CASE_LAW = "In Roe, 410 U.S. 113, and in Smith v. Jones, 123 F.3d 456, the court held so."


def cited(context: str, reasoning: str, **options: object) -> float | None:
    case = open_case(Answer("label", "yes"), context=(context,))
    return score("citations", answered(case, reasoning, "yes"), **options)


@pytest.mark.parametrize(
    ("context", "reasoning"),
    [
        (CONTRACT, "By Clause 4.2 the tenant repairs."),
        (CONTRACT, "By clause 4.2(b) the tenant repairs."),
        (CONTRACT, "See cl. 4.1, and section 13 (3)."),
        (CONTRACT, "§§ 4.1 and 4.2 apply."),
        (CONTRACT, "Sections 4.1, 4.2 and 12 apply."),
        (CONTRACT, "§ 13 applies."),
        (CONTRACT, "Article 12 applies."),  # a numbered line may be called anything
        (STATUTE, "Art. 6 GDPR allows it."),
        (STATUTE, "Art. 6 Abs. 1 lit. f GDPR allows it."),
        (STATUTE, "Article 6(1) allows it."),
        (STATUTE, "Section 433 BGB, and section 78j."),
        (CASE_LAW, "Roe (410 U. S. 113) decides."),
        (CASE_LAW, "As in 123 F.3d 456."),
    ],
)
def test_what_the_case_has_counts_however_it_is_written(context: str, reasoning: str) -> None:
    assert cited(context, reasoning) == 1.0, citations_in(reasoning)


@pytest.mark.parametrize(
    ("context", "reasoning"),
    [
        (CONTRACT, "By Clause 4.3 the tenant repairs."),
        (CONTRACT, "By clause 4.2(c) the tenant repairs."),
        (CONTRACT, "Art. 13 applies."),
        (CONTRACT, "Clause 42 applies."),
        (STATUTE, "Art. 6 DSA allows it."),
        (STATUTE, "Art. 6(2) GDPR allows it."),
        (STATUTE, "§ 433 HGB."),
        (STATUTE, "§ 43 BGB."),
        (CASE_LAW, "410 U.S. 114 decides."),
        (CASE_LAW, "123 F.2d 456 decides."),
        (CONTRACT, "The tenant repairs, as the contract says."),
        (CONTRACT, "The tenant pays 4.2 per cent within 12 days."),
    ],
)
def test_what_is_invented_and_what_is_missing_earns_nothing(context: str, reasoning: str) -> None:
    assert cited(context, reasoning) == 0.0, citations_in(reasoning)


def test_an_invented_citation_costs_a_right_one() -> None:
    assert cited(CONTRACT, "Clauses 4.1 and 4.2, and Clause 9.") == pytest.approx(1 / 3)
    assert cited(CONTRACT, "Clause 4.1 and Clause 9.") == 0.0


def test_repeating_a_citation_earns_nothing_more() -> None:
    assert cited(CONTRACT, "Clause 4.1. Clause 4.1. Clause 4.1. Clause 9.") == 0.0
    assert cited(CONTRACT, "Clause 4.1. Section 4.1.", at_least=2) == 0.5


def test_where_there_is_nothing_to_cite_inventing_costs() -> None:
    assert cited("He fell on the stairs.", "The landlord is liable.") == 1.0
    assert cited("He fell on the stairs.", "Liable under § 823 BGB.") == 0.0


def test_the_invented_citations_are_named() -> None:
    from rewards_support import rewards

    case = open_case(Answer("label", "yes"), context=(STATUTE,))
    component = rewards(citations={}).parts["citations"].component
    made = component.scores([answered(case, "Art. 6 GDPR and Art. 99(2) GDPR.", "yes")])[0]
    assert made.note == ["article 99(2) GDPR"]


@pytest.mark.parametrize("wrong", [0, "two", True])
def test_a_number_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(RewardError, match="at_least"):
        cited(CONTRACT, "x", at_least=wrong)


def test_long_texts_are_read_quickly() -> None:
    assert len(citations_in("§ 1, " * 20_000)) == 1
    assert citations_in("1 Abs. " * 20_000 + "(" * 20_000) == ()
