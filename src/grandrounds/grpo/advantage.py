"""Group advantages: how much better each completion is than its siblings.

    A_ij = (r_ij - b_ij) / s_i        case i, completion j of G

baseline b:
    mean            b_ij = mean of the group                     GRPO, arXiv:2402.03300, section 4.1.2
    leave_one_out   b_ij = mean of the other G - 1 completions   RLOO, arXiv:2402.14740
                    A_ij = G / (G - 1) times the centred reward; unbiased: r_ij is not in its own baseline
scale s:
    group           standard deviation of the group + 1e-4       GRPO, arXiv:2402.03300
    batch           standard deviation of all rewards + 1e-4     REINFORCE++, arXiv:2501.03262
    none            1                                            Dr. GRPO, arXiv:2503.20783

Scaling by the group favours cases that are nearly always or nearly never solved; the other two do not.

Standard deviations divide by G - 1 and carry 1e-4, as TRL's and verl's do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

EPSILON = 1e-4

Scale = Literal["group", "batch", "none"]
Baseline = Literal["mean", "leave_one_out"]


def advantages(
    rewards: np.ndarray,  # [N, G]
    *,
    scale: Scale = "group",
    baseline: Baseline = "mean",
) -> np.ndarray:
    """Advantages, float64 [N, G]. A group of equal rewards gets exactly 0: it carries no signal."""
    rewards = np.asarray(rewards, np.float64)
    size = rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdims=True)
    if baseline == "leave_one_out":
        centred *= size / (size - 1)
    if scale == "group":
        centred /= rewards.std(1, ddof=1, keepdims=True) + EPSILON
    elif scale == "batch":
        centred /= rewards.std(ddof=1) + EPSILON
    # A mean of equal numbers may differ from them in the last bit; dividing by 1e-4 would make that a signal.
    centred[without_signal(rewards)] = 0.0
    return centred


def without_signal(rewards: np.ndarray) -> np.ndarray:
    """Which groups' rewards are all equal, bool [N]."""
    return (rewards == rewards[:, :1]).all(1)
