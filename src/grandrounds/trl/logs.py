"""A round's numbers under TRL's names, and its completions in TRL's table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grandrounds.training.files import write_atomically
from grandrounds.types import ScoredGroup

# Of the update's metrics, our names -> TRL's.
NAMES = {
    "kl": "kl",
    "entropy": "entropy",
    "entropy_bonus": "entropy_coef",
    "clip_ratio/low_mean": "clip_ratio/low_mean",
    "clip_ratio/high_mean": "clip_ratio/high_mean",
    "clip_ratio/region_mean": "clip_ratio/region_mean",
    "step_time": "step_time",
}


def sampled(groups: Sequence[ScoredGroup], eos_ids: Iterable[int]) -> dict[str, float]:
    """What TRL logs of sampled completions and their rewards."""
    ends = frozenset(eos_ids)
    samples = [sample for group in groups for sample in group.samples]
    lengths = np.array([sample.length for sample in samples])
    ended = np.array([int(sample.completion.tokens[-1]) in ends for sample in samples])
    terminated = lengths[ended] if ended.any() else np.zeros(1)
    rewards = np.concatenate([group.rewards for group in groups])
    row = {
        "completions/mean_length": lengths.mean(),
        "completions/min_length": lengths.min(),
        "completions/max_length": lengths.max(),
        "completions/clipped_ratio": 1 - ended.mean(),
        "completions/mean_terminated_length": terminated.mean(),
        "completions/min_terminated_length": terminated.min(),
        "completions/max_terminated_length": terminated.max(),
    }
    for name in groups[0].scores:
        scores = np.array(
            [score for group in groups for score in group.scores[name]], np.float64
        )  # None: NaN
        known = scores[~np.isnan(scores)]
        row[f"rewards/{name}/mean"] = known.mean() if len(known) else np.nan
        row[f"rewards/{name}/std"] = known.std(ddof=1) if len(known) > 1 else np.nan
    row |= {
        "reward": rewards.mean(),
        "reward_std": rewards.std(ddof=1) if len(rewards) > 1 else 0.0,
        "frac_reward_zero_std": np.mean([np.isclose(group.rewards.std(), 0) for group in groups]),
    }
    for name in dict.fromkeys(name for group in groups for name in group.logged):
        row[name] = np.mean([group.logged[name] for group in groups if name in group.logged])
    return {name: float(value) for name, value in row.items()}


def averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """The mean of each number over the rows that have it; None where none has one."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row and not np.isnan(row[name])]
        means[name] = float(np.mean(values)) if values else None
    return means


def write_completions(folder: Path, step: int, groups: Sequence[ScoredGroup]) -> None:
    """completions_NNNNN.parquet: step, prompt, completion, each reward, what log_extra was given, advantage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    samples = [sample for group in groups for sample in group.samples]
    table: dict[str, list[Any]] = {
        "step": [step] * len(samples),
        "prompt": [_prompt(sample) for sample in samples],
        "completion": [_completion(sample) for sample in samples],
    }
    for name in groups[0].scores:
        table[name] = [score for group in groups for score in group.scores[name]]
    for name in dict.fromkeys(name for group in groups for name in group.extras):
        table[name] = [
            value for group in groups for value in group.extras.get(name, [None] * len(group.samples))
        ]
    table["advantage"] = [
        float(np.mean(one)) for group in groups for one in _listed(group.advantages, len(group.samples))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"completions_{step:05d}.parquet"
    write_atomically(path, lambda hidden: pq.write_table(pa.table(table), hidden))


def _listed(advantages: Any, count: int) -> Sequence[Any]:
    return [np.nan] * count if advantages is None else list(advantages)


def _prompt(sample: Any) -> Any:
    if isinstance(sample.case.question, str):
        return sample.case.question
    return [{"role": message.role, "content": message.content} for message in sample.prompt.messages]


def _completion(sample: Any) -> Any:
    text = sample.text
    return text if isinstance(sample.case.question, str) else [{"role": "assistant", "content": text}]
