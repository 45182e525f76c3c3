"""Reasoning over findings with a fitted table of points: demonstrations of it, and the check of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grandrounds.cases.check import ReasoningCheck
from grandrounds.domains.medicine.bayes import NaiveBayes, Scores
from grandrounds.response.outline import Candidate, Claim, Outline, render_outline, weighed_candidate
from grandrounds.response.totals import (
    adding_up,
    compared,
    comparison,
    comparison_holds,
    first_mentions,
    follows,
)
from grandrounds.types import Case, Demonstration

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# A trace is short, so that a small model learns it and samples it quickly. It takes the findings in the order observed,
# which is copying: where it had to choose the most telling ones, the model repeated some instead (docs/decisions.md).
MOST_FINDINGS = 8
HURRIED_FINDINGS = 2
POINTS_TOLERANCE = 1


def demonstrate(
    model: NaiveBayes,
    findings: Sequence[str],
    scores: Scores,
    names: Sequence[str],
    *,
    hurried: bool = False,
) -> Demonstration:
    """Weigh the first findings observed for each candidate, and add up.

    names: the candidates in the order to consider them in.
    hurried: weigh very few, so that a policy has something to find out.
    The conclusion is the candidate of the highest total; of equal ones, the one that all findings favour.
    """
    rows = [model.rows[name] for name in names]
    weighed = findings[: HURRIED_FINDINGS if hurried else MOST_FINDINGS]
    points = scores.points[rows, : len(weighed)]  # [candidates, weighed findings]
    differential = tuple(
        compared(
            weighed_candidate(name, adding_up(map(Claim, weighed, points[row].tolist())))
            for row, name in enumerate(names)
        )
    )
    first = np.lexsort((-scores.log[rows], -points.sum(axis=1)))[0]
    check = comparison(differential, differential[first])
    outline = Outline(tuple(weighed), differential, check, names[first])
    return Demonstration(render_outline(outline), names[first])


@dataclass(frozen=True)
class PhenopacketKnowledge:
    """The fitted table as `Knowledge`: the same for all cases, trained on or not, or there were no table to learn."""

    model: NaiveBayes

    def scores(self, case: Case) -> Scores:
        """The table's view of a case."""
        return self.model.score(present(self.model, case))

    def predict(self, case: Case) -> str:
        """Naive Bayes' diagnosis: of the options where there are some, else of all labels."""
        names = list(case.options.values()) or list(self.model.labels)
        log = self.scores(case).log
        return max(names, key=lambda name: log[self.model.rows[name]])

    def baselines(self, cases: Sequence[Case]) -> dict[str, dict[str, bool]]:
        """What a policy should be better than: name -> case id -> whether it is right."""
        return {"naive Bayes": {case.id: self.predict(case) == case.gold.text for case in cases}}

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check each claim, and the whole.

        Claims are: each listed finding is in the case; each candidate is an option; each point is off from the
        table's by at most 1 and not of the other sign; each sum and total adds up; the check compares rightly. What is
        claimed twice is false. Complete: every option is considered (in free text, two candidates), as many
        findings are listed as a thorough demonstration has, each is weighed for each candidate, and the conclusion
        was checked against its rivals.
        Follows: no candidate has a higher total than the conclusion.
        """
        facts = {fact.lower() for fact in case.facts}
        verdicts = [
            (finding, once and finding.lower() in facts)
            for finding, once in zip(outline.findings, first_mentions(outline.findings), strict=True)
        ]
        table = _Table(self.model, self.scores(case), case)
        names = [candidate.name for candidate in outline.differential]
        verdicts += [
            (f"{said.name}: {said.standing}", said == right)
            for said, right in zip(outline.differential, compared(outline.differential), strict=True)
            if said.standing is not None
        ]
        for candidate, once in zip(outline.differential, first_mentions(names), strict=True):
            verdicts += table.verdicts(candidate) if once else [(f"{candidate.name} again", False)]
        holds = comparison_holds(outline)
        if outline.check is not None and holds is not None:
            verdicts.append((outline.check, holds))
        false = tuple(text for text, true in verdicts if not true)
        considered = {name.lower() for name in names}
        options = {option.lower() for option in case.options.values()}
        listed = {finding.lower() for finding in outline.findings}
        enough = len(listed) >= min(MOST_FINDINGS, len(present(self.model, case)))
        all_weighed = all(
            listed <= {claim.finding.lower() for claim in candidate.claims}
            for candidate in outline.differential
        )
        all_considered = considered >= options if options else len(considered) >= 2
        return ReasoningCheck(
            claims=len(verdicts),
            true_claims=len(verdicts) - len(false),
            conclusion_follows=follows(outline),
            complete=enough and all_weighed and all_considered and holds is not None,
            false_claims=false,
        )


def present(model: NaiveBayes, case: Case) -> list[str]:
    """The case's observed findings ("no social interaction" is one, too)."""
    return [fact for fact in case.facts if not fact.startswith("no ") or fact in model.columns]


class _Table:
    """The table's view of one case, by lower-cased names."""

    def __init__(self, model: NaiveBayes, scores: Scores, case: Case) -> None:
        self.places = {finding.lower(): place for place, finding in enumerate(present(model, case))}
        names = case.options.values() or model.labels
        self.rows = {name.lower(): model.rows[name] for name in names if name in model.rows}
        self.scores = scores

    def verdicts(self, candidate: Candidate) -> list[tuple[str, bool]]:
        name = candidate.name
        row = self.rows.get(name.lower())
        if row is None:
            return [(f"{name} is an option", False)]
        sides = ((candidate.supports, 1), (candidate.contradicts, -1), (candidate.neutral, 0))
        claims = [(claim, sign) for side, sign in sides for claim in side]
        first_time = first_mentions([claim.finding for claim, _ in claims])
        verdicts = [
            (f"{name}: {claim.weighed}", once and self._true(claim, sign, row))
            for (claim, sign), once in zip(claims, first_time, strict=True)
        ]
        verdicts += [
            (f"{name}: {claim.text}", claim.sums[0] + (claim.points or 0) == claim.sums[1])
            for claim, _ in claims
            if claim.sums
        ]
        if candidate.total is not None and all(claim.points is not None for claim, _ in claims):
            stated = sum(claim.points or 0 for claim, _ in claims)
            verdicts.append((f"{name}: total {candidate.total}", candidate.total == stated))
        return verdicts

    def _true(self, claim: Claim, side: int, row: int) -> bool:
        """side: 1 where the claim is said to support, -1 to contradict, 0 neither."""
        place = self.places.get(claim.finding.lower())
        if place is None:
            return False
        points = int(self.scores.points[row, place])
        if claim.points is None:
            return points * side > 0
        on_its_side = np.sign(claim.points) == side and claim.points * points >= 0
        return bool(on_its_side) and abs(claim.points - points) <= POINTS_TOLERANCE
