"""Finds patterns that look like patient identifiers. They are a reason to look closer; finding none proves nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DATE = (
    rf"(?:\d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{1,4}}|{_MONTH}\.? \d{{1,2}},? \d{{4}}|\d{{1,2}} {_MONTH} \d{{4}})"
)
PATTERNS: dict[str, re.Pattern[str]] = {
    "phone number": re.compile(
        r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    ),
    "e-mail address": re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,4}"),
    "social security number": re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    "medical record number": re.compile(
        r"\b(?:MRN|medical record|patient id|hospital no)\b\W{0,3}(?:number|no\.?)?\W{0,4}[A-Z]{0,3}-?\d{4,}",
        re.IGNORECASE,
    ),
    "birth date": re.compile(
        rf"\b(?:DOB|date of birth|birth ?date|born(?: on)?)\b\W{{0,3}}{_DATE}", re.IGNORECASE
    ),
    "name": re.compile(r"\b(?:Mr|Mrs|Ms|Miss)\b\.? [A-Z][a-z]+"),
}
MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Suspicion:
    """cases: the number of cases with the pattern. examples: (case id, masked match)."""

    cases: int
    examples: tuple[tuple[str, str], ...]


def find_identifiers(texts: Iterable[tuple[str, str]]) -> dict[str, Suspicion]:
    """Pattern -> its matches in (case id, text) pairs. Patterns without a match are left out."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in PATTERNS}
    for identity, text in texts:
        for name, pattern in PATTERNS.items():
            if match := pattern.search(text):
                found[name].append((identity, masked(match[0])))
    return {name: Suspicion(len(hits), tuple(hits[:MOST_EXAMPLES])) for name, hits in found.items() if hits}


def hide_identifiers(text: str) -> str:
    """The text with everything masked that looks like an identifier."""
    for pattern in PATTERNS.values():
        text = pattern.sub(lambda match: masked(match[0]), text)
    return text


def masked(text: str) -> str:
    """The text with its word characters masked, except a first letter: "M•. •••••"."""
    return text[:1] + re.sub(r"\w", "•", text[1:]) if text[:1].isalpha() else re.sub(r"\w", "•", text)
