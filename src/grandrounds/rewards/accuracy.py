"""Accuracy: 1 for the gold answer, 0 for anything else; the note says which layer of matching decided.

A case without a gold answer has no accuracy.
"""

from __future__ import annotations

from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def accuracy(context: RewardContext) -> Scorer:
    """1 where the answer is the gold answer, else 0."""

    def score(sample: Sample) -> Score:
        if sample.case.gold.kind == "none":
            return Score(None)
        return Score(sample.verdict.score, sample.verdict.layer)

    return score
