"""The outline of a reasoning: findings, a differential with claims for and against, a check, a conclusion.

    Findings: crushing chest pain; sweating; no fever.
    Acute coronary syndrome: for crushing chest pain +3, sweating +2; against none; total 5.
    Pericarditis: for crushing chest pain +1; against no fever -1; total 0.
    Check: sweating is not explained by pericarditis.
    Conclusion: Acute coronary syndrome.

Points and totals are optional. Prose has no findings and no differential, but its conclusion is looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A finding that speaks for or against a candidate, and by how much where that is said."""

    finding: str
    points: int | None = None


@dataclass(frozen=True)
class Candidate:
    """One line of the differential."""

    name: str
    supports: tuple[Claim, ...] = ()
    contradicts: tuple[Claim, ...] = ()
    total: int | None = None


@dataclass(frozen=True)
class Outline:
    """The parts of a reasoning that could be made out."""

    findings: tuple[str, ...] = ()
    differential: tuple[Candidate, ...] = ()
    check: str | None = None
    conclusion: str | None = None


NONE = "none"
_DECORATION = re.compile(r"\*\*|__|`")
_BULLET = re.compile(r"^(?:[-*•]\s+|\(?\d{1,2}[.)]\s+)")
_CANDIDATE = re.compile(r"^(?P<name>[^:;]{1,200}):\s*(?P<claims>(?:for|against)\b.*)$", re.IGNORECASE)
_CLAIM = re.compile(r"^(?P<finding>.*?)\s*(?P<points>[+\-−]\s?\d{1,3})?$")
_TOTAL = re.compile(r"^total\s*:?\s*(?P<total>[+\-−]?\s?\d{1,4})$", re.IGNORECASE)
_CONCLUDING = re.compile(
    r"\b(?:(?:the\s+)?(?:final\s+|correct\s+|best\s+)?(?:answer|conclusion|diagnosis)\s+(?:is|would be|:)"
    r"|(?:most likely|likeliest)(?:\s+(?:diagnosis|answer|option))?(?:\s+is)?"
    r"|therefore|thus|hence|in conclusion)[,:]?\s+(?P<what>[^\n]{1,300})",
    re.IGNORECASE,
)


def parse_outline(reasoning: str) -> Outline:
    """Read what there is; tolerant of case, bullets, bold, spacing and a missing final period."""
    findings: tuple[str, ...] = ()
    differential: list[Candidate] = []
    check = conclusion = None
    for line in reasoning.splitlines():
        line = _BULLET.sub("", _DECORATION.sub("", line).strip())
        label, _, rest = line.partition(":")
        label, rest = label.strip().lower(), _sentence(rest)
        if label == "findings":
            findings = tuple(_items(rest, ";"))
        elif label == "check":
            check = rest
        elif label == "conclusion":
            conclusion = rest
        elif match := _CANDIDATE.match(line):
            differential.append(_candidate(match["name"].strip(), match["claims"]))
    return Outline(findings, tuple(differential), check, conclusion or _concluded_in_prose(reasoning))


def render_outline(outline: Outline) -> str:
    """The outline as text; `parse_outline` reads it back."""
    lines = []
    if outline.findings:
        lines.append(f"Findings: {'; '.join(outline.findings)}.")
    lines.extend(_render_candidate(candidate) for candidate in outline.differential)
    if outline.check is not None:
        lines.append(f"Check: {outline.check}.")
    if outline.conclusion is not None:
        lines.append(f"Conclusion: {outline.conclusion}.")
    return "\n".join(lines)


def _render_candidate(candidate: Candidate) -> str:
    parts = [f"for {_claims_text(candidate.supports)}", f"against {_claims_text(candidate.contradicts)}"]
    if candidate.total is not None:
        parts.append(f"total {candidate.total}")
    return f"{candidate.name}: {'; '.join(parts)}."


def _claims_text(claims: tuple[Claim, ...]) -> str:
    texts = (
        claim.finding if claim.points is None else f"{claim.finding} {claim.points:+d}" for claim in claims
    )
    return ", ".join(texts) or NONE


def _candidate(name: str, text: str) -> Candidate:
    supports: list[Claim] = []
    contradicts: list[Claim] = []
    total = None
    for part in _items(_sentence(text), ";"):
        word, _, rest = part.partition(" ")
        if match := _TOTAL.match(part):
            total = _integer(match["total"])
        elif word.lower() == "for":
            supports.extend(_claims(rest))
        elif word.lower() == "against":
            contradicts.extend(_claims(rest))
    return Candidate(name, tuple(supports), tuple(contradicts), total)


def _claims(text: str) -> list[Claim]:
    claims = []
    for item in _items(text, ","):
        match = _CLAIM.match(item)
        if item.lower() == NONE or match is None or not match["finding"]:
            continue
        points = _integer(match["points"]) if match["points"] else None
        claims.append(Claim(match["finding"], points))
    return claims


def _integer(text: str) -> int:
    return int(text.replace("−", "-").replace(" ", ""))


def _items(text: str, separator: str) -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]


def _sentence(text: str) -> str:
    return text.strip().removesuffix(".").strip()


def _concluded_in_prose(text: str) -> str | None:
    """What the last concluding phrase says, up to the end of its sentence."""
    last = None
    for last in _CONCLUDING.finditer(text):
        pass
    if last is None:
        return None
    return _sentence(re.split(r"(?<=[a-z\)])[.!?](?:\s|$)", last["what"], maxsplit=1)[0])
