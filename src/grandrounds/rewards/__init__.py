"""Rewards: components that score samples, and their combination into one reward for each sample."""

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
