"""The outline of a reasoning: findings, a differential with claims for and against, a check, a conclusion.

    Findings: crushing chest pain; sweating; no fever.
    Acute coronary syndrome: for crushing chest pain +3, sweating +2; total 5.
    Pericarditis: weighing crushing chest pain +1, sweating 0, no fever -1; total 0.
    Check: sweating is not explained by pericarditis.
    Conclusion: Acute coronary syndrome.

A list of findings without a semicolon is read between its commas; one finding that contains a comma has a semicolon
after it ("Findings: intellectual disability, severe;."). After `weighing`, findings are in any order, and the sign of
its points puts each on a side. Otherwise points and totals are optional. Where a list of claims has points, a claim
ends at its points, so a finding may contain commas ("intellectual disability, severe +2"). After the points may come
their sum so far ("sweating +2 = 5"), and after a total its comparison with the best total before it ("total 5; leads",
"total 3; trails 5"). Prose has no findings and no differential, but its conclusion is extracted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Claim:
    """A finding for or against a candidate, with its points if they are given.

    sums: the candidate's points before this claim and with it, as stated; None if not stated.
    """

    finding: str
    points: int | None = None
    sums: tuple[int, int] | None = None

    @property
    def weighed(self) -> str:
        """ "sweating", or "sweating +2"."""
        return self.finding if self.points is None else f"{self.finding} {signed(self.points)}"

    @property
    def text(self) -> str:
        """The claim as in the outline, with the sum: "sweating +2 = 5"."""
        return f"{self.weighed} = {self.sums[1]}" if self.sums else self.weighed


@dataclass(frozen=True)
class Candidate:
    """One line of the differential."""

    name: str
    supports: tuple[Claim, ...] = ()
    contradicts: tuple[Claim, ...] = ()
    total: int | None = None
    neutral: tuple[Claim, ...] = ()  # weighed at 0 points: neither for nor against
    standing: str | None = None  # compared with the best total before: "leads", "equals 5", "trails 5"

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of all three kinds."""
        return (*self.supports, *self.contradicts, *self.neutral)


@dataclass(frozen=True)
class Outline:
    """The parts of a reasoning that were recognised."""

    findings: tuple[str, ...] = ()
    differential: tuple[Candidate, ...] = ()
    check: str | None = None
    conclusion: str | None = None


def weighed_candidate(name: str, claims: Iterable[Claim]) -> Candidate:
    """A candidate with weighed findings. The sign of its points puts each claim on a side; the total is their sum."""
    claims = tuple(claims)
    worth = [claim.points or 0 for claim in claims]
    return Candidate(
        name,
        supports=tuple(claim for claim, points in zip(claims, worth, strict=True) if points > 0),
        contradicts=tuple(claim for claim, points in zip(claims, worth, strict=True) if points < 0),
        neutral=tuple(claim for claim, points in zip(claims, worth, strict=True) if points == 0),
        total=sum(worth),
    )


NONE = "none"
_LABELS = ("findings", "check", "conclusion")
_SPACES = re.compile(r"[^\S\n]+")
_DECORATION = re.compile(r"\*\*|__|`")
_BULLET = re.compile(r"^(?:[-*•]\s+|#{1,6}\s+|\(?\d{1,2}[.)]\s+)")
_CANDIDATE = re.compile(
    r"^(?P<name>[^:;]{1,400}):\s*(?P<claims>(?:for|against|weighing)\b.*)$", re.IGNORECASE
)
_COMMA = re.compile(r",(?!\d)")  # not the comma in "225,000"
_POINTS = re.compile(r"(?:^|\s)\(?(?P<points>[+\-−]\s?\d{1,3}|0)\)?(?:\s?=\s?(?P<sum>[+\-−]?\s?\d{1,4}))?$")
_TOTAL = re.compile(r"^total\s*:?\s*(?P<total>[+\-−]?\s?\d{1,4})$", re.IGNORECASE)
_STANDING = re.compile(r"^(?:leads|(?:equals|trails) [+\-−]?\d{1,4})$", re.IGNORECASE)
_CONCLUDING = re.compile(
    r"\b(?:(?:answer|conclusion|diagnosis)\s?(?:is|would be|must be|:)"
    r"|(?:most likely|likeliest)(?: diagnosis| answer| option)?(?: is)?"
    r"|therefore|thus|hence|in conclusion)[,:]?\s(?=\S)",
    re.IGNORECASE,
)
# A sentence ends at a stop after a word, not after an option's letter ("B. Pericarditis") and not inside a number.
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]][a-z0-9)\]])[.!?](?:\s|$)")


def parse_outline(reasoning: str) -> Outline:
    """Read the parts that are there, in any case and spacing, with bullets, bold or no final period. Never raises.

    The last conclusion counts. "Conclusion:" alone on a line takes the next line.
    """
    text = _SPACES.sub(" ", reasoning)
    parts: dict[str, list[str]] = {label: [] for label in _LABELS}
    differential: list[Candidate] = []
    waiting = ""  # the label whose text follows on the next line, or whose bulleted list continues
    for raw in text.split("\n"):
        plain = _DECORATION.sub("", raw).strip()
        line = _BULLET.sub("", plain)
        label, colon, rest = line.partition(":")
        label = label.strip().lower()
        if colon and label in parts:
            waiting = "" if _sentence(rest) else label
            parts[label].append(_sentence(rest))
        elif match := _CANDIDATE.match(line):
            differential.append(_candidate(match["name"].strip(), match["claims"]))
            waiting = ""
        elif waiting and line:
            listed = waiting == "findings" and line != plain
            if listed or not parts[waiting][-1]:
                parts[waiting].append(_sentence(line))
            waiting = waiting if listed else ""
    return Outline(
        findings=tuple(item for part in parts["findings"] for item in _listed(part)),
        differential=tuple(differential),
        check=_last(parts["check"]),
        conclusion=_last(parts["conclusion"]) or _concluded_in_prose(text),
    )


def render_outline(outline: Outline) -> str:
    """The outline as text, which `parse_outline` reads back.

    Names and findings must not contain line breaks, colons or semicolons; findings without points, no commas.
    """
    lines = []
    if outline.findings:
        alone = len(outline.findings) == 1 and _COMMA.search(outline.findings[0])
        lines.append(f"Findings: {'; '.join(outline.findings)}{';' if alone else ''}.")
    lines.extend(_render_candidate(candidate, outline.findings) for candidate in outline.differential)
    if outline.check is not None:
        lines.append(f"Check: {outline.check}.")
    if outline.conclusion is not None:
        lines.append(f"Conclusion: {outline.conclusion}.")
    return "\n".join(lines)


def _render_candidate(candidate: Candidate, findings: tuple[str, ...]) -> str:
    """A candidate's line. If it weighs all findings: `weighing`, in their order. Otherwise its non-empty sides, or
    `for` alone if both are empty."""
    parts = []
    order = {finding: place for place, finding in enumerate(findings)}
    if candidate.neutral or _weighs_all(candidate, findings):
        told = sorted(candidate.claims, key=lambda claim: order.get(claim.finding, len(order)))
        parts.append(f"weighing {_claims_text(tuple(told))}")
    else:
        if candidate.supports or not candidate.contradicts:
            parts.append(f"for {_claims_text(candidate.supports)}")
        if candidate.contradicts:
            parts.append(f"against {_claims_text(candidate.contradicts)}")
    if candidate.total is not None:
        parts.append(f"total {candidate.total}")
    if candidate.standing is not None:
        parts.append(candidate.standing)
    return f"{candidate.name}: {'; '.join(parts)}."


def _weighs_all(candidate: Candidate, findings: tuple[str, ...]) -> bool:
    weighed = {claim.finding for claim in candidate.claims if claim.points is not None}
    return bool(findings) and weighed >= set(findings)


def _claims_text(claims: tuple[Claim, ...]) -> str:
    return ", ".join(claim.text for claim in claims) or NONE


def signed(points: int) -> str:
    """Points with their sign: +3, -1, 0."""
    return f"{points:+d}" if points else "0"


def _candidate(name: str, text: str) -> Candidate:
    sides: dict[str, list[Claim]] = {"for": [], "against": [], "weighing": []}
    side, total, standing, so_far = "for", None, None, 0
    for part in _items(_sentence(text), ";"):
        if match := _TOTAL.match(part):
            total = _integer(match["total"])
            continue
        if _STANDING.match(part):
            standing = part.lower().replace("−", "-")
            continue
        word, _, rest = part.partition(" ")
        if word.lower().rstrip(":") in sides:
            side, part = word.lower().rstrip(":"), rest
        claims = _claims(part, so_far)
        sides[side].extend(claims)
        so_far = next((claim.sums[1] for claim in reversed(claims) if claim.sums), so_far)
    weighed = [(claim, claim.points or 0) for claim in sides["weighing"]]
    return Candidate(
        name,
        supports=(*sides["for"], *(claim for claim, points in weighed if points > 0)),
        contradicts=(*sides["against"], *(claim for claim, points in weighed if points < 0)),
        total=total,
        neutral=tuple(claim for claim, points in weighed if points == 0),
        standing=standing,
    )


def _claims(text: str, so_far: int) -> list[Claim]:
    """The claims in a list. so_far: the candidate's points before these claims, as stated."""
    claims: list[Claim] = []
    items = [item.strip() for item in _COMMA.split(text) if item.strip()]
    has_points = any(_POINTS.search(item) for item in items)
    begun: list[str] = []
    for item in items:
        match = _POINTS.search(item)
        if match is None and has_points:
            begun.append(item)
            continue
        finding = ", ".join([*begun, item[: match.start()].strip() if match else item])
        begun = []
        if not finding or finding.lower() == NONE:
            continue
        claim = Claim(finding, _integer(match["points"]) if match else None)
        if match and match["sum"]:
            claim = replace(claim, sums=(so_far, so_far := _integer(match["sum"])))
        claims.append(claim)
    return claims + [Claim(item) for item in begun if item.lower() != NONE]


def _integer(text: str) -> int:
    return int(text.replace("−", "-").replace(" ", ""))


def _items(text: str, separator: str) -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]


def _listed(text: str) -> list[str]:
    """Findings, between semicolons, or between commas where there is no semicolon, as language models often write."""
    if ";" in text:
        return _items(text, ";")
    return [item.strip() for item in _COMMA.split(text) if item.strip()]


def _last(parts: Sequence[str]) -> str | None:
    return next((part for part in reversed(parts) if part), None)


def _sentence(text: str) -> str:
    return text.strip().removesuffix(".").strip()


def _concluded_in_prose(text: str) -> str | None:
    """The text after the last concluding phrase, up to the end of its sentence."""
    plain = _DECORATION.sub("", text)
    ends = [match.end() for match in _CONCLUDING.finditer(plain)]
    if not ends:
        return None
    line = plain[ends[-1] :].partition("\n")[0]
    return _sentence(_SENTENCE_END.split(line, maxsplit=1)[0]) or None
