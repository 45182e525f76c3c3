"""Learning rate schedules."""

from __future__ import annotations

import math

from grandrounds.recipe import GrpoRecipe

# The share of SFT's steps in which the rate rises to its peak: AdamW's second moment is unreliable at first.
WARMUP_SHARE = 0.1


def sft_share(step: int, steps: int) -> float:
    """The share of the peak learning rate at SFT step `step` (from 1): linear warm-up, then cosine to 0; in (0, 1]."""
    rise = max(1, round(steps * WARMUP_SHARE))
    if step <= rise:
        return step / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise + 1)))


def learning_rate(recipe: GrpoRecipe, number: int, rounds: int) -> float:
    """The learning rate of round `number` (from 1) of `rounds`: linear warm-up, then constant or decayed to a tenth."""
    if number <= recipe.warmup_rounds:
        return recipe.learning_rate * number / recipe.warmup_rounds
    done = (number - recipe.warmup_rounds) / max(1, rounds - recipe.warmup_rounds)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return recipe.learning_rate * (0.1 + 0.9 * left[recipe.schedule])
