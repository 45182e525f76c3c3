"""Accuracy: 1 for the gold answer, 0 for anything else; the note says which layer of matching decided.

A case without a gold answer has no accuracy.
"""

from __future__ import annotations

from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def accuracy(context: RewardContext, *, partial: bool = False) -> Scorer:
    """Whether the answer is right. partial: of several right options, some count in part (intersection over union)."""

    def score(sample: Sample) -> Score:
        verdict, kind = sample.verdict, sample.case.gold.kind
        if kind == "none":
            return Score(None)
        whole = kind == "choices" and not partial
        return Score(float(verdict.correct) if whole else verdict.score, verdict.layer)

    return score
