"""Repetition: a penalty for word sequences that come again (as in arXiv:2502.03373)."""

from __future__ import annotations

from grandrounds.errors import RewardError
from grandrounds.rewards.attempt import Attempt, Judge, Mark, Surroundings


def repetition(surroundings: Surroundings, *, ngram: int = 4, tolerated: float = 0.4) -> Judge:
    """From 0 down to -1 with the share of repeated n-grams of words in the reasoning (without one: in all).

        share = 1 - |different n-grams| / |n-grams|;   R = -max(0, share - tolerated) / (1 - tolerated)

    tolerated: a differential repeats its phrases by nature; up to this share nothing is taken off.
    """
    if ngram < 1 or not 0 <= tolerated < 1:
        raise RewardError(
            "repetition needs ngram >= 1 and 0 <= tolerated < 1",
            where=f"ngram={ngram}, tolerated={tolerated}",
            hint="ngram counts words; tolerated is a share.",
        )

    def mark(attempt: Attempt) -> Mark:
        words = (attempt.response.reasoning or attempt.text).lower().split()
        total = len(words) - ngram + 1
        if total <= 0:
            return Mark(0.0)
        share = 1 - len(set(zip(*(words[i:] for i in range(ngram)), strict=False))) / total
        return Mark(min(0.0, tolerated - share) / (1 - tolerated))

    return mark
