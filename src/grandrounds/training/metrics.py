"""One round's row of `metrics.jsonl`, under the names that TRL uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from grandrounds.algorithm.grpo import Round, has_signal
from grandrounds.behaviour.detectors import rates
from grandrounds.behaviour.trace import Trace, trace_of
from grandrounds.response.grammar import Defect
from grandrounds.types import Sample


def round_metrics(done: Round) -> dict[str, Any]:
    """Every metric worth plotting. `accuracy` and `format_rate` describe the sampled completions, not the rewards."""
    samples = [sample for group in done.groups for sample in group.samples]
    rewards = np.stack([group.rewards for group in done.groups])  # [N, G]
    lengths = np.array([sample.length for sample in samples])
    row: dict[str, Any] = {
        "round": done.position.round,
        "num_tokens": done.position.tokens,
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(axis=1, ddof=1).mean()),
        "frac_reward_zero_std": float(np.mean([not has_signal(group) for group in done.groups])),
        "format_rate": float(np.mean([not sample.response.defects for sample in samples])),
        "answer_rate": float(
            np.mean([Defect.answer_missing not in sample.response.defects for sample in samples])
        ),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": int(lengths.min()),
        "completions/max_length": int(lengths.max()),
        "completions/clipped_ratio": float(np.mean([sample.finish == "length" for sample in samples])),
        "tokens_per_second": float(lengths.sum() / done.metrics["step_time"]),
    }
    row |= {f"behaviour/{name}": rate for name, rate in rates(_traces(samples)).items()}
    judged = [sample.verdict.correct for sample in samples if sample.case.gold.kind != "none"]
    if judged:
        row["accuracy"] = float(np.mean(judged))
    for name in done.groups[0].scores:
        known = [score for group in done.groups for score in group.scores[name] if score is not None]
        if known:
            row[f"rewards/{name}/mean"] = float(np.mean(known))
            row[f"rewards/{name}/std"] = float(np.std(known))
    logged = [name for group in done.groups for name in group.logged]
    for name in dict.fromkeys(logged):
        values = [group.logged[name] for group in done.groups if name in group.logged]
        row[f"logged/{name}"] = float(np.mean(values))
    return {**row, **done.metrics}


def _traces(samples: Sequence[Sample]) -> list[Trace]:
    """The reasonings of those samples that have one."""
    return [
        trace_of(sample.response.reasoning, sample.case) for sample in samples if sample.response.reasoning
    ]
