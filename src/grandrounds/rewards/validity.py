"""Validity: the reasoning's claims are true and complete, and lead to its conclusion, as far as that can be checked."""

from __future__ import annotations

from grandrounds.errors import RewardError
from grandrounds.rewards.knowledge import TableKnowledge
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def validity(context: RewardContext, *, table: str | None = None, strict: bool = False) -> Scorer:
    """The score of a check by the cases' own knowledge, or by a table of pairs of a condition and a finding.

    strict: 1 for a valid reasoning and 0 for any other, instead of partial credit. The note lists false claims.
    """
    knowledge = TableKnowledge.read(context.base / table) if table else context.knowledge
    if knowledge is None:
        raise RewardError(
            "validity needs knowledge to check reasoning against, and these cases have none",
            hint="Give it the option `table`, a file of condition, finding, relation; or leave it out.",
        )

    def score(sample: Sample) -> Score:
        check = knowledge.check(sample.case, sample.response.outline)
        return Score(float(check.valid) if strict else check.score, list(check.false_claims) or None)

    return score
