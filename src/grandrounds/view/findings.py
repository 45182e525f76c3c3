"""Which findings a response cites, whether the case has them, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

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


def stated(case: Case, text: str, states: Iterable[Mapping[str, str]]) -> list[Piece]:
    """The case's text in pieces, its facts marked; where they are not known, what the responses cite of it."""
    facts = {_needle(fact): ABSENT if affirm(normalise(fact)) else PRESENT for fact in case.facts}
    quoted = {
        _needle(written): state for cited in states for written, state in cited.items() if state != INVENTED
    }
    return pieces(text, facts | quoted)


def _needle(finding: str) -> str:
    """What to look for in a text: the finding without its denial, which may stand elsewhere in the sentence."""
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
