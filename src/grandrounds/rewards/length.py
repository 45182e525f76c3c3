"""Soft over-length punishment: DAPO (arXiv:2503.14476), equation 13."""

from __future__ import annotations

from grandrounds.errors import RewardError
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def length(context: RewardContext, *, limit: int | None = None, buffer: float = 0.2) -> Scorer:
    """0 for short completions, falling linearly to -1 over the last part before the limit.

        R(y) = 0                                  |y| <= L_max - L_cache
               ((L_max - L_cache) - |y|) / L_cache   up to L_max
               -1                                 beyond

    limit: L_max in tokens; default: max_new_tokens. buffer: L_cache as a share of L_max (DAPO used 4,096 of 20,480).
    """
    if not 0 < buffer <= 1 or (limit is not None and limit < 1):
        raise RewardError(
            "length needs 0 < buffer <= 1 and limit >= 1",
            where=f"buffer={buffer}, limit={limit}",
            hint="buffer is a share of the limit; limit is in tokens.",
        )

    def score(sample: Sample) -> Score:
        longest = limit or sample.max_new_tokens
        cache = buffer * longest
        return Score(max(-1.0, min(0.0, (longest - cache - sample.length) / cache)))

    return score
