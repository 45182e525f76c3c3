"""The check of a reasoning against knowledge. Each source of knowledge implements `Knowledge`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from grandrounds.response.outline import Candidate, Outline
from grandrounds.response.totals import compared, comparison_holds, first_mentions, follows
from grandrounds.types import Case


@dataclass(frozen=True)
class ReasoningCheck:
    """The result of checking one reasoning.

    claims, true_claims: statements that could be checked, and how many of them are true.
    conclusion_follows: the conclusion is the one that the reasoning's own claims support best. None without a
        conclusion, or without anything that it could follow from.
    complete: everything that decides the case was weighed.
    false_claims: the false statements as written, for the reader.
    """

    claims: int
    true_claims: int
    conclusion_follows: bool | None
    complete: bool
    false_claims: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Strict: something is claimed, all claims are true, it is complete, and the conclusion follows."""
        return (
            self.claims > 0
            and self.true_claims == self.claims
            and self.conclusion_follows is True
            and self.complete
        )

    @property
    def score(self) -> float:
        """In [0, 1], and 1 only if valid: half for the share of true claims, a quarter each for the other two."""
        if self.claims == 0:
            return 0.0
        follows = self.conclusion_follows is True
        return 0.5 * self.true_claims / self.claims + 0.25 * follows + 0.25 * self.complete


@runtime_checkable
class Knowledge(Protocol):
    """What a source of cases knows about candidates and findings."""

    def baselines(self, cases: Sequence[Case]) -> Mapping[str, Mapping[str, bool]]:
        """Answers by guessing or by simple models: name -> case id -> whether the answer is right."""
        ...

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check a reasoning's outline for a case."""
        ...


def check_points(
    outline: Outline,
    points: Mapping[str, Mapping[str, int]],
    facts: Collection[str],
    *,
    complete: bool,
    tolerance: int = 0,
    stated: bool = True,
) -> ReasoningCheck:
    """Check a reasoning that weighs findings by points, claim by claim.

    A claim is: each listed finding is in the case; each candidate is an option; each claim's points are the table's;
    each sum, total and standing is right; the check's comparison is right. A repeated claim counts as false, since
    repeating true claims would otherwise raise the score. The conclusion follows if no candidate has a higher total.

    points: candidate -> finding of the case -> points, in lower case. facts: those of the case, in lower case.
    complete: whether all that the domain requires was weighed. In addition, this function requires the comparison.
    tolerance: how far points may be off, with the right sign. stated: whether points and totals must be stated.
    """
    verdicts = [
        (finding, once and finding.lower() in facts)
        for finding, once in zip(outline.findings, first_mentions(outline.findings), strict=True)
    ]
    verdicts += [
        (f"{said.name}: {said.standing}", said == right)
        for said, right in zip(outline.differential, compared(outline.differential), strict=True)
        if said.standing is not None
    ]
    names = first_mentions([candidate.name for candidate in outline.differential])
    for candidate, once in zip(outline.differential, names, strict=True):
        table = points.get(candidate.name.lower())
        if not once:
            verdicts.append((f"{candidate.name} again", False))
        elif table is None:
            verdicts.append((f"{candidate.name} is an option", False))
        else:
            verdicts += _verdicts(candidate, table, tolerance, stated)
    holds = comparison_holds(outline)
    if outline.check is not None and holds is not None:
        verdicts.append((outline.check, holds))
    false = tuple(text for text, true in verdicts if not true)
    return ReasoningCheck(
        claims=len(verdicts),
        true_claims=len(verdicts) - len(false),
        conclusion_follows=follows(outline),
        complete=complete and holds is not None,
        false_claims=false,
    )


def _verdicts(
    candidate: Candidate, table: Mapping[str, int], tolerance: int, stated: bool
) -> list[tuple[str, bool]]:
    """(claim of the candidate as written, whether it is true) for each claim."""
    name = candidate.name
    sides = ((candidate.supports, 1), (candidate.contradicts, -1), (candidate.neutral, 0))
    claims = [(claim, side) for of_side, side in sides for claim in of_side]
    first_time = first_mentions([claim.finding for claim, _ in claims])
    verdicts = []
    for (claim, side), once in zip(claims, first_time, strict=True):
        right = table.get(claim.finding.lower())
        if right is None:
            true = False
        elif claim.points is None:
            true = not stated and right * side > 0
        else:
            on_its_side = (claim.points > 0) - (claim.points < 0) == side and claim.points * right >= 0
            true = on_its_side and abs(claim.points - right) <= tolerance
        verdicts.append((f"{name}: {claim.weighed}", once and true))
    verdicts += [
        (f"{name}: {claim.text}", claim.sums[0] + (claim.points or 0) == claim.sums[1])
        for claim, _ in claims
        if claim.sums
    ]
    all_said = candidate.total is not None and all(claim.points is not None for claim, _ in claims)
    if stated or all_said:
        total = sum(claim.points or 0 for claim, _ in claims)
        verdicts.append((f"{name}: total {candidate.total}", candidate.total == total))
    return verdicts
