"""The outline of a reasoning: rendered, parsed, and looked for in prose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.cases.check import ReasoningCheck
from grandrounds.response import Candidate, Claim, Outline, parse_outline, render_outline
from grandrounds.response.totals import adding_up, compared

WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
PHRASE = st.lists(WORD, min_size=1, max_size=4).map(lambda words: "q" + " ".join(words))
POINTS = st.integers(-99, 99)
SCORED = st.lists(st.builds(Claim, st.tuples(PHRASE, PHRASE).map(", ".join), POINTS), max_size=3).map(tuple)
PLAIN = st.lists(st.builds(Claim, PHRASE), max_size=3).map(tuple)
SUMMED = SCORED.map(adding_up).map(tuple)
CANDIDATES = st.one_of(
    st.builds(
        Candidate,
        PHRASE,
        st.one_of(SCORED, PLAIN),
        st.one_of(SCORED, PLAIN),
        st.none() | st.integers(-999, 999),
    ),
    st.builds(
        Candidate,
        PHRASE,
        SUMMED,
        st.one_of(SCORED, PLAIN),
        standing=st.sampled_from([None, "leads", "equals 5", "trails -3"]),
    ),
)
OUTLINES = st.builds(
    Outline,
    st.lists(PHRASE | st.tuples(PHRASE, PHRASE).map(", ".join), max_size=4).map(tuple),
    st.lists(CANDIDATES, max_size=3).map(tuple),
    st.none() | PHRASE,
    st.none() | PHRASE,
)


@given(OUTLINES)
def test_what_is_rendered_is_parsed_back(outline: Outline) -> None:
    assert parse_outline(render_outline(outline)) == outline


def test_an_outline_as_models_write_it_is_read() -> None:
    outline = parse_outline(
        "**Findings:**\n- crushing chest pain\n- no fever.\n\n"
        "1. **Acute coronary syndrome**:  For crushing chest pain (+3); Against none; Total: 3\n"
        "* Pericarditis: for crushing chest pain, a rub; against no fever\n"
        "CHECK: it fits\nConclusion:\nAcute coronary syndrome"
    )
    assert outline.findings == ("crushing chest pain", "no fever")
    assert outline.differential == (
        Candidate("Acute coronary syndrome", (Claim("crushing chest pain", 3),), (), 3),
        Candidate("Pericarditis", (Claim("crushing chest pain"), Claim("a rub")), (Claim("no fever"),), None),
    )
    assert (outline.check, outline.conclusion) == ("it fits", "Acute coronary syndrome")


@pytest.mark.parametrize(
    ("line", "findings"),
    [
        ("Findings: fever, chills, no cough.", ("fever", "chills", "no cough")),
        ("Findings: 150,000 platelets, fever", ("150,000 platelets", "fever")),
        ("Findings: intellectual disability, severe; fever.", ("intellectual disability, severe", "fever")),
        ("Findings: intellectual disability, severe;.", ("intellectual disability, severe",)),
    ],
)
def test_findings_stand_between_semicolons_or_else_between_commas(
    line: str, findings: tuple[str, ...]
) -> None:
    assert parse_outline(line).findings == findings
    assert parse_outline(render_outline(Outline(findings=findings))).findings == findings


def test_each_total_is_compared_with_the_best_before_it() -> None:
    totals = [-2, 3, 3, 1, 12]
    standings = [c.standing for c in compared(Candidate("x", total=total) for total in totals)]
    assert standings == ["leads", "leads", "equals 3", "trails 3", "leads"]


def test_sums_so_far_go_on_from_the_one_side_to_the_other() -> None:
    (gout,) = parse_outline(
        "Gout: for toe pain (+3) = 3, swelling, mild +2 = 5; against fever −1 = 4."
    ).differential
    assert gout.supports == (Claim("toe pain", 3, (0, 3)), Claim("swelling, mild", 2, (3, 5)))
    assert gout.contradicts == (Claim("fever", -1, (5, 4)),)


@pytest.mark.parametrize(
    ("prose", "conclusion"),
    [
        ("He has pain. Therefore, pericarditis. More text.", "pericarditis"),
        ("So the most likely diagnosis is **B. Pericarditis**.", "B. Pericarditis"),
        ("The answer is A at first. But no: the answer is B.", "B"),
        ("He has pain and sweats.", None),
        ("", None),
    ],
)
def test_a_conclusion_is_looked_for_in_prose(prose: str, conclusion: str | None) -> None:
    assert parse_outline(prose) == Outline(conclusion=conclusion)


def test_a_check_is_valid_only_if_everything_holds() -> None:
    assert ReasoningCheck(2, 2, True, True).valid
    assert ReasoningCheck(2, 2, True, True).score == 1
    for check in (
        ReasoningCheck(0, 0, True, True),
        ReasoningCheck(2, 1, True, True),
        ReasoningCheck(2, 2, None, True),
        ReasoningCheck(2, 2, True, False),
    ):
        assert not check.valid
        assert check.score < 1
