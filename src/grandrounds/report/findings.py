"""Which findings a response cites, whether the case has them, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from grandrounds.domain import synonyms
from grandrounds.response.grammar import Response
from grandrounds.response.outline import Outline
from grandrounds.rewards.evidence import in_case
from grandrounds.rewards.polarity import affirm, denial
from grandrounds.rewards.text import normalise
from grandrounds.types import Answer, Case

PRESENT, ABSENT, INVENTED = "present", "absent", "invented"
# More would not help a reader, and would slow the page.
MOST, LONGEST = 200, 400
Piece = tuple[str, str | None]


def cited(response: Response, case: Case) -> dict[str, str]:
    """Every finding that an outline cites, as written -> present or absent, as the case says, or invented.

    Of a reasoning in prose: the case's facts that it mentions.
    """
    written = _written(response.outline)
    if not written:
        reasoning = (response.reasoning or "").lower()
        written = [fact for fact in case.facts if _needle(fact).lower() in reasoning]
    return {text: _state(text, case) for text in written[:MOST] if len(text) <= LONGEST}


def _written(outline: Outline) -> list[str]:
    claims = [claim.finding for candidate in outline.differential for claim in candidate.claims]
    return list(dict.fromkeys((*outline.findings, *claims)))


def _state(text: str, case: Case) -> str:
    finding = denial(normalise(text))
    if not finding or not in_case(finding, case):
        return INVENTED
    return PRESENT if affirm(finding) is None else ABSENT


def stated(case: Case, text: str, responses: Iterable[Mapping[str, str]]) -> tuple[list[Piece], list[Piece]]:
    """The case's text in pieces, its facts marked wherever one of their names stands; and the facts not found so.

    Where the facts are not known, what the responses cite of the text is marked.
    """
    facts = {fact: ABSENT if affirm(normalise(fact)) else PRESENT for fact in case.facts[:MOST]}
    cites = {written: state for one in responses for written, state in one.items() if state != INVENTED}
    marks = {name: state for fact, state in {**cites, **facts}.items() for name in _names(fact)}
    found = pieces(text, marks)
    seen = {piece.lower() for piece, mark in found if mark}
    elsewhere: list[Piece] = [
        (fact, state) for fact, state in facts.items() if seen.isdisjoint(map(str.lower, _names(fact)))
    ]
    return found, elsewhere


def _names(finding: str) -> tuple[str, ...]:
    """What a finding may be called in a text; without its denial, which may stand elsewhere in the sentence."""
    bare = _needle(finding)
    return (bare, *_other_names().get(normalise(bare), ()))


@cache
def _other_names() -> dict[str, list[str]]:
    """Name -> its other names, of all domains."""
    names: dict[str, list[str]] = {}
    for other, name in synonyms().items():
        names.setdefault(normalise(name), []).append(other)
    return names


def _needle(finding: str) -> str:
    return affirm(finding.lower()) or finding


def pieces(text: str, marks: Mapping[str, str]) -> list[Piece]:
    """The text cut into (piece, mark or None) wherever one of the marked texts stands, in any case, longest first."""
    wanted = sorted((mark for mark in marks if mark.strip()), key=len, reverse=True)
    if not wanted:
        return [(text, None)]
    states = {mark.lower(): marks[mark] for mark in wanted}
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(mark)}(?!\w)" for mark in wanted), re.IGNORECASE)
    found: list[Piece] = []
    reached = 0
    for match in pattern.finditer(text):
        if match.start() > reached:
            found.append((text[reached : match.start()], None))
        found.append((match[0], states.get(match[0].lower())))
        reached = match.end()
    return [*found, *([(text[reached:], None)] if reached < len(text) or not found else [])]


def asked(question: str, facts: Sequence[str] | None) -> Case:
    """A case with what is known of it, enough to look findings up in it."""
    return Case(id="", question=question, gold=Answer("none", ""), facts=tuple(facts or ()))
