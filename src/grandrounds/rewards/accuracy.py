"""Accuracy: 1 for the gold answer, 0 for anything else; the note says which layer of matching decided."""

from __future__ import annotations

from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def accuracy(context: RewardContext) -> Scorer:
    """The answer is the gold one."""

    def score(sample: Sample) -> Score:
        return Score(sample.verdict.score, sample.verdict.layer)

    return score
