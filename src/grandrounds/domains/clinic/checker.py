"""Checks a reasoning against the clinic's table and the vignette, claim by claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grandrounds.cases.check import ReasoningCheck
from grandrounds.domains.clinic.world import Cluster, World
from grandrounds.response.outline import Candidate, Claim, Outline
from grandrounds.response.totals import comparison_holds, first_mentions, follows
from grandrounds.types import Case

# A finding worth this many points for an option decides; leaving it out makes a reasoning incomplete.
DECISIVE = 2


@dataclass(frozen=True)
class ClinicKnowledge:
    """The clinic's own `Knowledge`."""

    world: World

    def baselines(self, cases: Sequence[Case]) -> Mapping[str, Mapping[str, bool]]:
        """The shortcuts that a vignette may fall to."""
        return {
            name: {case.id: name in case.columns["shortcuts"] for case in cases}
            for name in ("prior", "first finding", "overlap")
        }

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check each claim, and the whole.

        Claims are: each listed finding is in the case; each candidate is an option; each point is the
        table's; each total adds up; the check compares rightly. What is claimed a second time is false, or
        repeating what is known to be true would pay. Complete: every fact is listed, every option is
        considered, nothing decisive is left out, and the conclusion was checked against its closest rival.
        Follows: the conclusion has the highest total.
        """
        facts = first_mentions(outline.findings)
        verdicts = [
            (finding, once and finding.lower() in case.facts)
            for finding, once in zip(outline.findings, facts, strict=True)
        ]
        considered = first_mentions([candidate.name for candidate in outline.differential])
        for candidate, once in zip(outline.differential, considered, strict=True):
            verdicts.extend(
                self._candidate(case, candidate) if once else [(f"{candidate.name} again", False)]
            )
        compared = comparison_holds(outline)
        if outline.check is not None and compared is not None:
            verdicts.append((outline.check, compared))
        false = tuple(text for text, true in verdicts if not true)
        return ReasoningCheck(
            claims=len(verdicts),
            true_claims=len(verdicts) - len(false),
            conclusion_follows=follows(outline),
            complete=compared is not None and self._complete(case, outline),
            false_claims=false,
        )

    def _candidate(self, case: Case, candidate: Candidate) -> list[tuple[str, bool]]:
        name = candidate.name
        known = self.world.by_condition.get(name.lower())
        if known is None or name.lower() not in {option.lower() for option in case.options.values()}:
            return [(f"{name} is an option", False)]
        cluster, row = known
        verdicts = []
        claims = candidate.claims
        right_side = (
            *((claim.points or 0) > 0 for claim in candidate.supports),
            *((claim.points or 0) < 0 for claim in candidate.contradicts),
            *(claim.points == 0 for claim in candidate.neutral),
        )
        for claim, side, once in zip(
            claims, right_side, first_mentions([c.finding for c in claims]), strict=True
        ):
            true = claim.finding.lower() in case.facts and _points(cluster, claim, row) == claim.points
            verdicts.append((f"{name}: {claim.weighed}", once and true and side))
        stated = sum(claim.points or 0 for claim in claims)
        verdicts.append((f"{name}: total {candidate.total}", candidate.total == stated))
        return verdicts

    def _complete(self, case: Case, outline: Outline) -> bool:
        listed = {finding.lower() for finding in outline.findings}
        considered = {candidate.name.lower(): candidate for candidate in outline.differential}
        if not listed.issuperset(case.facts):
            return False
        for option in case.options.values():
            candidate = considered.get(option.lower())
            cluster, row = self.world.by_condition[option.lower()]
            if candidate is None:
                return False
            weighed = {claim.finding.lower() for claim in candidate.claims}
            decisive = {fact for fact in case.facts if abs(cluster.points(fact, row)) >= DECISIVE}
            if not decisive <= weighed:
                return False
        return True


def _points(cluster: Cluster, claim: Claim, row: int) -> int | None:
    try:
        return cluster.points(claim.finding.lower(), row)
    except KeyError:
        return None
