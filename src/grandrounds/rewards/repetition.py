"""Repetition: a penalty for repeated word sequences (as in arXiv:2502.03373)."""

from __future__ import annotations

from grandrounds.errors import RewardError
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def repetition(context: RewardContext, *, ngram: int = 4, tolerated: float = 0.4) -> Scorer:
    """Falls from 0 to -1 with the share of repeated word n-grams in the reasoning, or without one in the completion.

        share = 1 - |different n-grams| / |n-grams|;   R = -max(0, share - tolerated) / (1 - tolerated)

    tolerated: up to this share there is no penalty, since a differential naturally repeats its phrases.
    """
    if ngram < 1 or not 0 <= tolerated < 1:
        raise RewardError(
            "repetition needs ngram >= 1 and 0 <= tolerated < 1",
            where=f"ngram={ngram}, tolerated={tolerated}",
            hint="ngram counts words; tolerated is a share.",
        )

    def score(sample: Sample) -> Score:
        words = (sample.response.reasoning or sample.text).lower().split()
        total = len(words) - ngram + 1
        if total <= 0:
            return Score(0.0)
        share = 1 - len(set(zip(*(words[i:] for i in range(ngram)), strict=False))) / total
        return Score(min(0.0, tolerated - share) / (1 - tolerated))

    return score
