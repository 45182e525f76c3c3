"""Learning rates as shares of their peak."""

from __future__ import annotations

import math

from grandrounds.recipe import GrpoRecipe

# A tenth of SFT's steps to reach the peak: AdamW's second moment is unreliable before that.
WARMUP_SHARE = 0.1


def sft_share(step: int, steps: int) -> float:
    """Of SFT step `step` (from 1): linear warm-up, then cosine to zero; in (0, 1]."""
    rise = max(1, round(steps * WARMUP_SHARE))
    if step <= rise:
        return step / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise + 1)))


def learning_rate(recipe: GrpoRecipe, number: int, rounds: int) -> float:
    """Of round `number` (from 1) of `rounds`: linear warm-up, then constant or decayed to a tenth."""
    if number <= recipe.warmup_rounds:
        return recipe.learning_rate * number / recipe.warmup_rounds
    done = (number - recipe.warmup_rounds) / max(1, rounds - recipe.warmup_rounds)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return recipe.learning_rate * (0.1 + 0.9 * left[recipe.schedule])
