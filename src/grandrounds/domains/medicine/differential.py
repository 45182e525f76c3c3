"""Reasoning over findings with a fitted table of points: makes demonstrations, and checks reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grandrounds.cases.check import ReasoningCheck, check_points
from grandrounds.domains.medicine.bayes import NaiveBayes, Scores
from grandrounds.response.outline import Claim, Outline, render_outline, weighed_candidate
from grandrounds.response.totals import adding_up, compared, comparison
from grandrounds.types import Case, Demonstration

# A trace is short, so that a small model learns it and samples it quickly. It uses the findings in the order observed,
# so the model only has to copy. When it had to choose the most telling ones, it repeated some (docs/decisions.md).
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
    """Weigh the first observed findings for each candidate, and add up their points.

    names: the candidates, in the order in which they are considered.
    hurried: weigh very few findings, so that GRPO has something to improve.
    The conclusion is the candidate with the highest total. Among equal totals, all findings decide.
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
    """The fitted table as `Knowledge`. It is the same for all cases, in training or not: a table must be learnable."""

    model: NaiveBayes

    def scores(self, case: Case) -> Scores:
        """The table's scores for a case."""
        return self.model.score(present(self.model, case))

    def predict(self, case: Case) -> str:
        """Naive Bayes' diagnosis: one of the options, or without options one of all labels."""
        names = list(case.options.values()) or list(self.model.labels)
        log = self.scores(case).log
        return max(names, key=lambda name: log[self.model.rows[name]])

    def baselines(self, cases: Sequence[Case]) -> dict[str, dict[str, bool]]:
        """The baseline that a policy should surpass: name -> case id -> whether it is right."""
        return {"naive Bayes": {case.id: self.predict(case) == case.gold.text for case in cases}}

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check by the fitted table. Points may be off by 1 with the right sign, and need not be stated.

        Complete: every option is considered (in free text, two candidates), as many findings are listed as in a
        thorough demonstration, each is weighed for each candidate, and the check compares the totals.
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
    """The case's observed findings. A finding's own name may begin with "no ": "no social interaction"."""
    return [fact for fact in case.facts if not fact.startswith("no ") or fact in model.columns]
