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


def learning_rate(recipe: GrpoRecipe, number: int, rounds: int, share: float = 0.0) -> float:
    """The learning rate in round `number` (from 1) of `rounds`: linear warm-up, then constant or decayed.

    By round, it is that of the round's end: the warm-up's first round has a rate above 0, and the last round of all
    has the lowest rate. By step, it is that of the optimizer step's beginning, of which `share` of the round's steps
    are done: the warm-up's first step has rate 0, and the lowest rate would be that after the last step. So
    transformers' schedules count.
    """
    position = number if recipe.schedule_by == "round" else number - 1 + share
    warmup = recipe.warmup_rounds
    if position < warmup:
        return recipe.learning_rate * position / warmup
    done = (position - warmup) / max(1, rounds - warmup)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    end = recipe.learning_rate_end
    return recipe.learning_rate * (end + (1 - end) * left[recipe.schedule])
