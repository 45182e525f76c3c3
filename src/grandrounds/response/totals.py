"""A reasoning that adds up points: what it says of its own totals, whatever world the points are from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grandrounds.response.outline import Candidate, Outline

_COMPARED = re.compile(r"^(?P<first>.+) leads (?P<points>-?\d+) against (?P<others>-?\d+)$", re.IGNORECASE)


def comparison(first: Candidate, second: Candidate) -> str:
    """The check of the choice against its closest rival, which a reader can verify: "Gout leads 5 against 3"."""
    return f"{first.name} leads {first.total} against {second.total}"


def comparison_holds(outline: Outline) -> bool | None:
    """Whether the check names the conclusion, its total, and its closest rival's; None where it compares nothing."""
    match = _COMPARED.match(outline.check or "")
    if match is None:
        return None
    totals = _totals(outline)
    first = match["first"].lower()
    others = [total for name, total in totals.items() if name != first]
    if first not in totals or not others or first != (outline.conclusion or "").lower():
        return False
    return totals[first] == int(match["points"]) and max(others) == int(match["others"])


def follows(outline: Outline) -> bool | None:
    """Whether the conclusion is a candidate than which none has a higher total; None where it cannot be told."""
    totals = _totals(outline)
    if outline.conclusion is None or not totals:
        return None
    return totals.get(outline.conclusion.lower()) == max(totals.values())


def first_mentions(texts: Sequence[str]) -> list[bool]:
    """Whether each text is said for the first time, in any case of letters."""
    lower = [text.lower() for text in texts]
    return [text not in lower[:place] for place, text in enumerate(lower)]


def _totals(outline: Outline) -> dict[str, int]:
    return {c.name.lower(): c.total for c in outline.differential if c.total is not None}
