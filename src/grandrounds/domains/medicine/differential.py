"""Reasoning over findings with a fitted table of points: demonstrations of it, and the check of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grandrounds.cases.check import ReasoningCheck, check_points
from grandrounds.domains.medicine.bayes import NaiveBayes, Scores
from grandrounds.response.outline import Claim, Outline, render_outline, weighed_candidate
from grandrounds.response.totals import adding_up, compared, comparison
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
        """By the fitted table: a point may be off by 1, not on the other side, and need not be said.

        Complete: every option is considered (in free text, two candidates), as many findings are listed as a thorough
        demonstration has, each is weighed for each candidate, and the conclusion was checked against its rivals.
        """
        findings, table = present(self.model, case), self.scores(case).points
        names = case.options.values() or self.model.labels
        points = {
            name.lower(): dict(
                zip(map(str.lower, findings), table[self.model.rows[name]].tolist(), strict=True)
            )
            for name in names
            if name in self.model.rows
        }
        facts = {fact.lower() for fact in case.facts}
        complete = _complete(case, outline, len(findings))
        return check_points(
            outline, points, facts, complete=complete, tolerance=POINTS_TOLERANCE, stated=False
        )


def _complete(case: Case, outline: Outline, findings: int) -> bool:
    considered = {candidate.name.lower() for candidate in outline.differential}
    options = {option.lower() for option in case.options.values()}
    listed = {finding.lower() for finding in outline.findings}
    all_weighed = all(
        listed <= {claim.finding.lower() for claim in candidate.claims} for candidate in outline.differential
    )
    all_considered = considered >= options if options else len(considered) >= 2
    return len(listed) >= min(MOST_FINDINGS, findings) and all_weighed and all_considered


def present(model: NaiveBayes, case: Case) -> list[str]:
    """The case's observed findings ("no social interaction" is one, too)."""
    return [fact for fact in case.facts if not fact.startswith("no ") or fact in model.columns]
