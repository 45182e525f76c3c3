"""Behaviour: 1 where the reasoning shows one of the behaviours that `behaviour.detectors` looks for.

Risky as a reward: words alone earn it. `grandrounds rewards test` shows how.
"""

from __future__ import annotations

from grandrounds.behaviour.detectors import BEHAVIOURS
from grandrounds.behaviour.trace import trace_of
from grandrounds.errors import RewardError
from grandrounds.loading import did_you_mean
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample


def behaviour(context: RewardContext, *, of: str = "") -> Scorer:
    """1 where the reasoning shows the behaviour `of`, else 0, with the passages as a note. None without a reasoning.

    RewardError for a behaviour that nothing detects.
    """
    detect = BEHAVIOURS.get(of)
    if detect is None:
        raise RewardError(
            f"there is no behaviour `{of}`" if of else "the option `of` names no behaviour",
            hint=(did_you_mean(of, BEHAVIOURS) if of else "") or f"There are {', '.join(BEHAVIOURS)}.",
        )

    def score(sample: Sample) -> Score:
        reasoning = sample.response.reasoning
        if not reasoning:
            return Score(None)
        spans = detect(trace_of(reasoning, sample.case))
        return Score(float(bool(spans)), [reasoning[start:end] for start, end in spans] or None)

    return score
