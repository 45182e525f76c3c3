"""Accuracy: 1 for the gold answer, 0 for any other. The note names the layer of matching that decided."""

from __future__ import annotations

from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def accuracy(context: RewardContext) -> Scorer:
    """1 where the answer is the gold answer, else 0."""

    def score(sample: Sample) -> Score:
        return Score(sample.verdict.score, sample.verdict.layer)

    return score
