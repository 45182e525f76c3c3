"""Takes a response apart for display: the structure of its reasoning, with false parts marked."""

from __future__ import annotations

from dataclasses import dataclass

from grandrounds.evaluation.result import Answered
from grandrounds.report.words import DEFECTS
from grandrounds.response.outline import Candidate, Claim, parse_outline
from grandrounds.rewards.polarity import denial
from grandrounds.rewards.text import normalise


@dataclass(frozen=True)
class Marked:
    """A piece of reasoning. wrong: what is wrong with it ("not in the case"), or "" if nothing is known to be."""

    text: str
    wrong: str = ""
    points: int | None = None


@dataclass(frozen=True)
class Line:
    """One candidate of the differential. concluded: whether the reasoning concludes it."""

    name: Marked
    supports: tuple[Marked, ...]
    contradicts: tuple[Marked, ...]
    total: Marked | None
    concluded: bool


@dataclass(frozen=True)
class ReasoningLayout:
    """A response taken apart. prose: the reasoning as written, where it has no structure.

    remarks: everything found wrong, in words: defects of form, claims, consistency.
    praise: what was checked and found right.
    """

    findings: tuple[Marked, ...]
    differential: tuple[Line, ...]
    check: Marked | None
    conclusion: str | None
    prose: str | None
    remarks: tuple[str, ...]
    praise: tuple[str, ...]


def layout_of(answered: Answered) -> ReasoningLayout:
    """Take a response apart. Without a reasoning, only the remarks are filled."""
    reasoning = answered.reasoning or ""
    outline = parse_outline(reasoning)
    marker = _Marker(answered)
    structured = bool(outline.findings or outline.differential)
    return ReasoningLayout(
        findings=tuple(marker.finding(finding) for finding in outline.findings),
        differential=tuple(marker.line(candidate, outline.conclusion) for candidate in outline.differential),
        check=marker.claimed(outline.check, outline.check) if structured and outline.check else None,
        conclusion=outline.conclusion if structured else None,
        prose=reasoning if reasoning and not structured else None,
        remarks=_remarks(answered),
        praise=_praise(answered),
    )


class _Marker:
    """Marks the pieces of a reasoning that the checks found false."""

    def __init__(self, answered: Answered) -> None:
        self.invented = frozenset(answered.invented)
        self.false = frozenset(answered.check.false_claims) if answered.check else frozenset()

    def finding(self, text: str) -> Marked:
        invented = denial(normalise(text)) in self.invented
        return Marked(text, "not in the case" if invented or text in self.false else "")

    def claimed(self, text: str, *forms: str | None) -> Marked:
        """The piece, marked as not true if one of its forms is among the checkers' false claims."""
        return Marked(text, "not true" if self.false.intersection(forms) else "")

    def line(self, candidate: Candidate, conclusion: str | None) -> Line:
        name = candidate.name
        return Line(
            name=Marked(name, "not an option" if f"{name} is an option" in self.false else ""),
            supports=tuple(self._claim(name, "for", claim) for claim in candidate.supports),
            contradicts=tuple(self._claim(name, "against", claim) for claim in candidate.contradicts),
            total=None
            if candidate.total is None
            else self.claimed(f"{candidate.total}", f"{name}: total {candidate.total}"),
            concluded=normalise(conclusion or "") == normalise(name),
        )

    def _claim(self, name: str, side: str, claim: Claim) -> Marked:
        false = {f"{name}: {claim.weighed}", f"{name}: {side} {claim.finding}"} & self.false
        invented = denial(normalise(claim.finding)) in self.invented
        wrong = "not in the case" if invented else "not true" if false else ""
        return Marked(claim.finding, wrong, claim.points)


def _remarks(answered: Answered) -> tuple[str, ...]:
    found = [DEFECTS.get(defect, defect) for defect in answered.defects]
    if answered.consistent is False:
        found.append("the answer is not what the reasoning concludes")
    if answered.invented:
        found.append(f"cites what the case does not say: {'; '.join(answered.invented)}")
    check = answered.check
    if check is not None:
        if check.false_claims:
            found.append(f"does not hold: {'; '.join(check.false_claims)}")
        if check.conclusion_follows is False:
            found.append("the conclusion does not follow from what was weighed")
        if not check.complete:
            found.append("incomplete: not everything that decides the case was weighed and checked")
    return tuple(found)


def _praise(answered: Answered) -> tuple[str, ...]:
    check = answered.check
    if check is None or not check.valid:
        return ()
    return (f"all {check.claims} claims hold, nothing decisive is left out, and the conclusion follows",)
