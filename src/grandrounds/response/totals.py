"""A reasoning that adds up points: makes and checks its sums, totals and comparisons, in any domain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from grandrounds.response.outline import Candidate, Claim, Outline

LEADS = "leads"
_COMPARED = re.compile(r"^totals (?P<totals>-?\d+(?:, -?\d+)*); (?P<first>.+) leads$", re.IGNORECASE)


def adding_up(claims: Iterable[Claim]) -> Iterator[Claim]:
    """The claims of one candidate, each with the sum so far. Adding one number at a time is easy to learn."""
    so_far = 0
    for claim in claims:
        yield replace(claim, sums=(so_far, so_far := so_far + (claim.points or 0)))


def compared(differential: Iterable[Candidate]) -> Iterator[Candidate]:
    """Each candidate with its total compared to the best before it. Comparing two numbers is easier than many."""
    best: int | None = None
    for candidate in differential:
        total = candidate.total or 0
        if best is None or total > best:
            best, standing = total, LEADS
        else:
            standing = f"{'equals' if total == best else 'trails'} {best}"
        yield replace(candidate, standing=standing)


def comparison(differential: Sequence[Candidate], first: Candidate) -> str:
    """The check of the choice against its rivals, which a reader can verify: "totals 3, 5, 0; Gout leads"."""
    totals = ", ".join(str(candidate.total) for candidate in differential)
    return f"totals {totals}; {first.name} leads"


def comparison_holds(outline: Outline) -> bool | None:
    """Whether the check repeats each total and names the conclusion, which has the highest. None without such a check.

    Candidates with equal highest totals both lead.
    """
    match = _COMPARED.match(outline.check or "")
    if match is None:
        return None
    stated = [int(total) for total in match["totals"].split(", ")]
    agrees = stated == [candidate.total for candidate in outline.differential]
    concluded = match["first"].lower() == (outline.conclusion or "").lower()
    return agrees and concluded and follows(outline) is True


def follows(outline: Outline) -> bool | None:
    """Whether no candidate has a higher total than the concluded one. None without a conclusion or totals."""
    totals = _totals(outline)
    if outline.conclusion is None or not totals:
        return None
    return totals.get(outline.conclusion.lower()) == max(totals.values())


def first_mentions(texts: Sequence[str]) -> list[bool]:
    """Whether each text occurs for the first time, ignoring case."""
    lower = [text.lower() for text in texts]
    return [text not in lower[:place] for place, text in enumerate(lower)]


def _totals(outline: Outline) -> dict[str, int]:
    return {c.name.lower(): c.total for c in outline.differential if c.total is not None}
