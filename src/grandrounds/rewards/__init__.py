"""Rewards: components that score samples, and their combination into one reward for each sample."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grandrounds.rewards.matching import judge
    from grandrounds.rewards.reward_set import BUILT_IN, RewardSet, build_rewards
    from grandrounds.rewards.sample import read_group, read_sample
    from grandrounds.rewards.scorer import RewardContext, Score
    from grandrounds.rewards.validate import Shortfall, gold_sample, validate_rewards
    from grandrounds.types import Sample, ScoredGroup, Verdict

__all__ = [
    "BUILT_IN",
    "RewardContext",
    "RewardSet",
    "Sample",
    "Score",
    "ScoredGroup",
    "Shortfall",
    "Verdict",
    "build_rewards",
    "gold_sample",
    "judge",
    "read_group",
    "read_sample",
    "validate_rewards",
]

_MODULES = {
    **dict.fromkeys(("Sample", "ScoredGroup", "Verdict"), "grandrounds.types"),
    **dict.fromkeys(("RewardContext", "Score"), f"{__name__}.scorer"),
    **dict.fromkeys(("read_group", "read_sample"), f"{__name__}.sample"),
    **dict.fromkeys(("Shortfall", "gold_sample", "validate_rewards"), f"{__name__}.validate"),
    "judge": f"{__name__}.matching",
}


def __getattr__(name: str) -> Any:
    # Lazily: a worker that calls a user's function needs none of it, and starts in a fraction of the time.
    if name in __all__:
        return getattr(import_module(_MODULES.get(name, f"{__name__}.reward_set")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
