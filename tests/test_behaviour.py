"""What a reasoning does, found in its text: which words show it, which do not, and how often that is right."""

from __future__ import annotations

import pytest
from detectors import HALVES, TRACES, count, read_traces
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.behaviour.detectors import BEHAVIOURS, rates, spans_of
from grandrounds.behaviour.items import instead, items, stated, without
from grandrounds.behaviour.trace import Trace, sentences

OUTLINE = """\
Findings: chest pain; no fever.
Migraine: for none; total 0.
Pericarditis: for chest pain +3; total 3.
Check: totals 0, 3; Pericarditis leads.
Conclusion: Pericarditis."""


def shown(text: str, question: str = "", **further) -> set[str]:
    return {name for name, spans in spans_of(Trace(text, question, **further)).items() if spans}


def passages(name: str, text: str, question: str = "", facts: tuple[str, ...] = ()) -> list[str]:
    return [text[start:end] for start, end in BEHAVIOURS[name](Trace(text, question, facts))]


def test_an_outline_shows_what_its_lines_say():
    assert shown(OUTLINE, facts=("chest pain", "no fever")) == {
        "self_verification",
        "alternatives",
        "evidence_cited",
    }
    assert passages("self_verification", OUTLINE) == ["Check: totals 0, 3; Pericarditis leads."]
    assert len(passages("alternatives", OUTLINE)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "It is 408. Let me double-check: 24 x 17 = 408.",
        "So 408. Does this make sense? Yes, since 400 is near.",
        "x = 19. Substituting back: 19 + 12 = 31.",
        "That can't be right: it is more than the whole.",
    ],
)
def test_a_check_that_says_what_came_of_it_is_self_verification(text):
    assert "self_verification" in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "Check the blood pressure and wait for the results.",
        "The doctor must check the drug chart.",
        "I should double-check the numbers before I answer.",
        "A checking account was opened.",
    ],
)
def test_advice_and_announcements_are_no_self_verification(text):
    assert "self_verification" not in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "It is 800. Wait, that is not right. It is 900.",
        "It is A. Hmm, let me reconsider. It is B.",
        "Asthma. On reflection, it is not.",
        "It is A. I take that back.",
        "At first I thought of gout. But the joint is cool.",
    ],
)
def test_going_back_on_a_statement_is_revision(text):
    assert "revision" in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "Wait for the results.",
        "He may wait, and then call.",
        "The court reviewed its earlier decision.",
        "After revision surgery the fever fell.",
        "I was wrong before. The answer is A.",
        "My first thought is to read the invoice.",
        "The patient cannot wait.",
    ],
)
def test_other_peoples_waiting_and_reviewing_is_no_revision(text):
    assert "revision" not in shown(text)


def test_a_list_of_names_is_no_exploration():
    assert "alternatives" not in shown("Candidates: asthma, croup, flu. It is asthma.")
    assert "alternatives" not in shown("Alternative medicine is popular.")
    assert "alternatives" in shown("Asthma is unlikely without a wheeze. Croup would explain the cough.")


def test_evidence_needs_two_facts():
    question = "Noted: friction rub, fever. What is it?"
    assert passages("evidence_cited", "There is a friction rub.", question, ("friction rub", "fever")) == []
    cited = passages("evidence_cited", "Friction rub and fever.", question, ("friction rub", "fever"))
    assert cited == ["Friction rub", "fever"]


def test_a_denied_finding_is_not_the_finding():
    facts = ("fever", "no cough", "friction rub")
    assert passages("evidence_cited", "No fever, but friction rub.", "", facts) == []
    assert passages("evidence_cited", "No cough, but friction rub.", "", facts) == [
        "No cough",
        "friction rub",
    ]


def test_without_known_facts_the_question_is_read():
    question = "A jacket costs 80 euros. It is reduced by 25 percent. What is its price?"
    assert shown("25 percent of 80 is 20.", question) >= {"evidence_cited"}
    assert "evidence_cited" not in shown("It is cheap.", question)


TEXT = "Noted: losing weight, productive cough. The notes say: no swollen ankles. He keeps 1,200 bees. Which is it?"


def test_items_are_the_findings_of_what_is_not_asked():
    assert [item.text for item in items(TEXT)] == [
        "losing weight",
        "productive cough",
        "no swollen ankles",
        "He keeps 1,200 bees",
    ]
    assert [item.text for item in stated("He is old. He coughs. Why?")] == ["He is old.", "He coughs."]


def test_what_introduces_findings_is_no_finding():
    text = "Asked further, the patient mentions: nausea, chills. On direct questioning, no rash. However, no cough."
    listed = items(text)
    assert [item.text for item in listed] == ["nausea", "chills", "no rash", "no cough"]
    assert "direct" not in without(text, listed[2])


def test_an_item_goes_with_its_comma_or_with_its_sentence():
    first, second, third, _ = items(TEXT)
    rest = "The notes say: no swollen ankles. He keeps 1,200 bees. Which is it?"
    assert without(TEXT, first) == f"Noted: productive cough. {rest}"
    assert without(TEXT, second) == f"Noted: losing weight. {rest}"
    assert "notes" not in without(TEXT, third)
    assert instead(TEXT, second, "green hair") == f"Noted: losing weight, green hair. {rest}"


def test_rates_are_shares_of_the_reasonings():
    assert rates([]) == {}
    assert rates([Trace("It is A. Wait, no."), Trace("B.")])["revision"] == 0.5


@given(st.text(max_size=300), st.text(max_size=200), st.lists(st.text(max_size=20), max_size=3))
def test_spans_are_ordered_parts_of_any_text(text, question, facts):
    for spans in spans_of(Trace(text, question, tuple(facts))).values():
        ends = [place for span in spans for place in span]
        assert ends == sorted(ends)
        assert all(0 <= start < end <= len(text) for start, end in spans)


@given(st.text(alphabet="abc ,;:.?!\n1", max_size=80))
def test_every_item_of_any_text_can_be_removed_and_replaced(text):
    for item in (*items(text), *stated(text)):
        assert text[slice(*item.span)] == item.text
        assert len(without(text, item)) < len(text)
        assert "green hair" in instead(text, item, "green hair").lower()


@given(st.text(max_size=200))
def test_sentences_stand_where_they_say(text):
    for sentence in sentences(text):
        assert text[slice(*sentence.span)] == sentence.text


# Least precision and recall on either half; what was measured stands in docs/behaviour.md.
FLOORS = {
    "self_verification": (0.9, 0.9),
    "alternatives": (0.83, 0.9),
    "revision": (0.6, 0.95),
    "evidence_cited": (0.89, 0.9),
}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_detectors_agree_with_a_reader(name, half):
    counts = count(name, [one for one in read_traces(TRACES) if one.half == half])
    least_precision, least_recall = FLOORS[name]
    assert counts.precision.value >= least_precision
    assert counts.recall.value >= least_recall
