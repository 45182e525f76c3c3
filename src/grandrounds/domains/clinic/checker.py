"""Checks a reasoning against the clinic's table and the vignette, claim by claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grandrounds.cases.check import ReasoningCheck, check_points
from grandrounds.domains.clinic.textbook import TEXTBOOK, check_comparison, matches_most
from grandrounds.domains.clinic.world import World
from grandrounds.response.outline import Outline
from grandrounds.types import Case

# A fact with this many points, for or against an option, is decisive: a reasoning without it is incomplete.
DECISIVE = 2


@dataclass(frozen=True)
class ClinicKnowledge:
    """The clinic's implementation of `Knowledge`."""

    world: World

    def baselines(self, cases: Sequence[Case]) -> Mapping[str, Mapping[str, bool]]:
        """The shortcuts (see `vignette`) and counting by the textbook, and which cases each of them solves."""
        solved = {
            name: {case.id: name in case.columns["shortcuts"] for case in cases}
            for name in ("prior", "first finding", "overlap")
        }
        if all(TEXTBOOK in case.columns for case in cases):
            solved["textbook"] = {case.id: matches_most(case) for case in cases}
        return solved

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check claims against the clinic's table. Points must match exactly.

        Complete: every fact is listed, every option is considered, every decisive fact is weighed, and the check
        compares the totals. With an open textbook, that of `textbook` instead.
        """
        rows = {option.lower(): self.world.by_condition[option.lower()] for option in case.options.values()}
        if TEXTBOOK in case.columns:
            return check_comparison(case, outline, rows)
        points = {
            name: {fact: cluster.points(fact, row) for fact in case.facts}
            for name, (cluster, row) in rows.items()
        }
        return check_points(outline, points, case.facts, complete=_complete(case, outline, points))


def _complete(case: Case, outline: Outline, points: Mapping[str, Mapping[str, int]]) -> bool:
    listed = {finding.lower() for finding in outline.findings}
    considered = {candidate.name.lower(): candidate for candidate in outline.differential}
    if not listed.issuperset(case.facts) or not considered.keys() >= points.keys():
        return False
    for name, of_option in points.items():
        weighed = {claim.finding.lower() for claim in considered[name].claims}
        if not {fact for fact, number in of_option.items() if abs(number) >= DECISIVE} <= weighed:
            return False
    return True
