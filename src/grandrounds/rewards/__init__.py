"""What is good: components that score attempts, and their combination into one reward each."""

from grandrounds.rewards.attempt import Attempt, Mark, Scores
from grandrounds.rewards.matching import Verdict, judge
from grandrounds.rewards.reward_set import BUILT_IN, RewardSet, build_rewards
from grandrounds.rewards.validate import Shortfall, gold_attempt, validate_rewards

__all__ = [
    "BUILT_IN",
    "Attempt",
    "Mark",
    "RewardSet",
    "Scores",
    "Shortfall",
    "Verdict",
    "build_rewards",
    "gold_attempt",
    "judge",
    "validate_rewards",
]
