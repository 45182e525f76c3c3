"""Short demonstrations: what told most, and the conclusion. They have some 40 tokens where others have 300.

They are made from a case's own demonstration, or, where it has none, from its facts and the gold answer. So a warm-up
can teach the form of a response on cases without a written reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from grandrounds.cases.ask import gold_text
from grandrounds.response.outline import Outline, parse_outline, render_outline
from grandrounds.types import Case, Demonstration

# Findings that a short demonstration names.
TELLING = 2
# A stop after a word, so not the one of an initial or a numbered item.
_FIRST_SENTENCE = re.compile(r"(?s)(.*?\w\w[.!?])(?:\s|$)")
_SEPARATORS = re.compile(r"[:;\s]+")


def with_brief_demonstrations(cases: Sequence[Case]) -> list[Case]:
    """The cases with a short demonstration each, or with none where there is no gold answer either."""
    return [replace(case, demonstration=brief(case)) for case in cases]


def brief(case: Case) -> Demonstration | None:
    """The case's demonstration in two lines: findings that speak most for its conclusion, and the conclusion.

    Prose without findings keeps its first sentence.
    """
    shown = case.demonstration
    if shown is None:
        if case.gold.kind == "none":
            return None
        return _concluding(case.facts, gold_text(case))
    outline = parse_outline(shown.reasoning)
    if not outline.findings:
        first = _FIRST_SENTENCE.match(shown.reasoning.strip())
        sentence = " ".join((first[1] if first else shown.reasoning).split())
        return Demonstration(f"{sentence}\nConclusion: {_plain(shown.answer)}.", shown.answer)
    return _concluding(_telling(outline) or outline.findings, shown.answer)


def _concluding(findings: Sequence[str], answer: str) -> Demonstration:
    named = tuple(_plain(finding) for finding in findings[:TELLING])
    return Demonstration(render_outline(Outline(findings=named, conclusion=_plain(answer))), answer)


def _telling(outline: Outline) -> list[str]:
    """The findings that the outline gives its conclusion points for, most points first."""
    concluded = (outline.conclusion or "").lower()
    claims = [
        claim
        for candidate in outline.differential
        if candidate.name.lower() == concluded
        for claim in candidate.supports
    ]
    return [claim.finding for claim in sorted(claims, key=lambda claim: -(claim.points or 0))]


def _plain(text: str) -> str:
    """Without what separates an outline's parts."""
    return _SEPARATORS.sub(" ", text).strip().removesuffix(".")
