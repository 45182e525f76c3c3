"""The trace: every completion of a round with all that was made of it, one Parquet file per round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grandrounds.errors import RunError
from grandrounds.rewards.matching import judge
from grandrounds.training.files import write_atomically

if TYPE_CHECKING:
    import pyarrow

    from grandrounds.rewards import Attempt, Scores
    from grandrounds.sampling.rollout import Group


def write_trace(
    path: Path,
    number: int,
    groups: Sequence[Group],
    attempts: Sequence[Attempt],
    scores: Scores,
    advantages: np.ndarray,  # [N, G]
) -> None:
    """Write one round atomically. N groups of G completions; attempts and scores are in the groups' order.

    Columns: round, group (place in the round), case_id, attempt (place in the group), prompt (as rendered;
    stored once per group), completion, finish, length, rewards/NAME for each component (null where it does
    not apply), reward, advantage, answer, gold, correct, defects, notes (JSON: what decided each component).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    members = [
        (place, turn, group) for place, group in enumerate(groups) for turn in range(len(group.completions))
    ]
    columns: dict[str, Any] = {
        "round": pa.array([number] * len(members), pa.int32()),
        "group": pa.array([place for place, _, _ in members], pa.int32()),
        "case_id": pa.array([group.prompt.case.id for _, _, group in members], pa.string()),
        "attempt": pa.array([turn for _, turn, _ in members], pa.int32()),
        "prompt": pa.array([group.prompt.text for _, _, group in members], pa.string()),
        "completion": pa.array([group.completions[turn].text for _, turn, group in members], pa.string()),
        "finish": pa.array([group.completions[turn].finish for _, turn, group in members], pa.string()),
        "length": pa.array([len(group.completions[turn].tokens) for _, turn, group in members], pa.int32()),
    }
    for name, values in scores.components.items():
        columns[f"rewards/{name}"] = pa.array(values, pa.float64())
    columns |= {
        "reward": pa.array(scores.rewards, pa.float64()),
        "advantage": pa.array(np.asarray(advantages, np.float64).ravel(), pa.float64()),
        "answer": pa.array([attempt.response.answer for attempt in attempts], pa.string()),
        "gold": pa.array([attempt.case.gold.text for attempt in attempts], pa.string()),
        "correct": pa.array([judge(a.response.answer, a.case).correct for a in attempts], pa.bool_()),
        "defects": pa.array([[str(d) for d in a.response.defects] for a in attempts], pa.list_(pa.string())),
        "notes": pa.array(
            [json.dumps(note, ensure_ascii=False, default=str) for note in scores.notes], pa.string()
        ),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda hidden: pq.write_table(pa.table(columns), hidden, compression="zstd"))


def read_trace(run: Path | str, rounds: Sequence[int] | None = None) -> pyarrow.Table:
    """A run's completions in order, of all rounds or of some; `.to_pylist()` or `.to_pandas()` makes rows of
    it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(path for path in (Path(run) / "rollouts").glob("*.parquet") if path.stem.isdigit())
    if rounds is not None:
        paths = [path for path in paths if int(path.stem) in set(rounds)]
    if not paths:
        raise RunError(
            "there are no rollouts here", where=str(run), hint="Name the folder of a run that has trained."
        )
    return pa.concat_tables([pq.read_table(path) for path in paths], promote_options="default")
