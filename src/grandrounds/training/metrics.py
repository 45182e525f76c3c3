"""One round's row of `metrics.jsonl`, under the names TRL gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grandrounds.grpo.advantage import without_signal
from grandrounds.response.grammar import Defect
from grandrounds.rewards import Attempt, Scores
from grandrounds.rewards.matching import judge
from grandrounds.training.saving import Position


def round_metrics(
    attempts: Sequence[Attempt],
    scores: Scores,
    rewards: np.ndarray,  # [N, G]
    position: Position,
    update: Mapping[str, float],
) -> dict[str, Any]:
    """Everything worth a curve. `accuracy` and `format_rate` are of the sampled completions, whatever the rewards."""
    lengths = np.array([attempt.length for attempt in attempts])
    row: dict[str, Any] = {
        "round": position.round,
        "num_tokens": position.tokens,
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(axis=1, ddof=1).mean()),
        "frac_reward_zero_std": float(without_signal(rewards).mean()),
        "accuracy": float(np.mean([judge(a.response.answer, a.case).correct for a in attempts])),
        "format_rate": float(np.mean([not a.response.defects for a in attempts])),
        "answer_rate": float(np.mean([Defect.answer_missing not in a.response.defects for a in attempts])),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": int(lengths.min()),
        "completions/max_length": int(lengths.max()),
        "completions/clipped_ratio": float(np.mean([a.finish == "length" for a in attempts])),
        "tokens_per_second": float(lengths.sum() / update["step_time"]),
    }
    for name, values in scores.components.items():
        known = [value for value in values if value is not None]
        if known:
            row[f"rewards/{name}/mean"] = float(np.mean(known))
            row[f"rewards/{name}/std"] = float(np.std(known))
    return {**row, **update}
