"""The trace: every completion of a round with its scores and advantage, in one Parquet file per round."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grandrounds.errors import RunError
from grandrounds.training.files import write_atomically
from grandrounds.types import Case, ScoredGroup

if TYPE_CHECKING:
    import pyarrow


def write_trace(path: Path, number: int, groups: Sequence[ScoredGroup], *, tokens: bool = False) -> None:
    """Write one round atomically: the groups in order, and the samples of each.

    Columns: round, group (index in the round), case_id, sample (index in the group), prompt (as rendered; stored once
    per group), question (the case's own text), facts (its findings), completion, finish, length, rewards/NAME for each
    component (null where it does not apply), reward, advantage (per-token ones averaged), answer, given (the answer as
    understood: the same for answers that mean the same; null where it was not), gold, correct, defects, notes (JSON:
    what decided each component), extras (JSON: what reward functions logged by log_extra); with `tokens`: token_ids
    and token_logprobs (float32, behaviour log-probs) of each completion.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(place, turn, group) for place, group in enumerate(groups) for turn in range(len(group.samples))]
    samples = [group.samples[turn] for _, turn, group in rows]

    def column(values: Iterable[Any], kind: Any) -> pa.Array:
        return pa.array(list(values), kind)

    columns: dict[str, Any] = {
        "round": column((number for _ in rows), pa.int32()),
        "group": column((place for place, _, _ in rows), pa.int32()),
        "case_id": column((sample.case.id for sample in samples), pa.string()),
        "sample": column((turn for _, turn, _ in rows), pa.int32()),
        "prompt": column((sample.prompt.text for sample in samples), pa.string()),
        "question": column((_question(sample.case) for sample in samples), pa.string()),
        "facts": column((list(sample.case.facts) for sample in samples), pa.list_(pa.string())),
        "completion": column((sample.text for sample in samples), pa.string()),
        "finish": column((sample.finish for sample in samples), pa.string()),
        "length": column((sample.length for sample in samples), pa.int32()),
    }
    for name in groups[0].scores:
        columns[f"rewards/{name}"] = column(
            (group.scores[name][turn] for _, turn, group in rows), pa.float64()
        )
    columns |= {
        "reward": column((group.rewards[turn] for _, turn, group in rows), pa.float64()),
        "advantage": column((_advantage(group, turn) for _, turn, group in rows), pa.float64()),
        "answer": column((sample.response.answer for sample in samples), pa.string()),
        "given": column((sample.verdict.given for sample in samples), pa.string()),
        "gold": column((sample.case.gold.text for sample in samples), pa.string()),
        "correct": column((sample.verdict.correct for sample in samples), pa.bool_()),
        "defects": column(
            ([str(d) for d in sample.response.defects] for sample in samples), pa.list_(pa.string())
        ),
        "notes": column((_json(group.notes[turn]) for _, turn, group in rows), pa.string()),
        "extras": column((_json(_extras(group, turn)) for _, turn, group in rows), pa.string()),
    }
    if tokens:
        made = [sample.completion for sample in samples]
        columns["token_ids"] = column((one.tokens for one in made), pa.list_(pa.int32()))
        columns["token_logprobs"] = column((one.logprobs for one in made), pa.list_(pa.float32()))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda hidden: pq.write_table(pa.table(columns), hidden, compression="zstd"))


def _advantage(group: ScoredGroup, turn: int) -> float:
    return math.nan if group.advantages is None else float(np.mean(group.advantages[turn]))


def _question(case: Case) -> str:
    asked = case.question
    told = [asked] if isinstance(asked, str) else [message.content for message in asked]
    return "\n\n".join((*case.context, *told))


def _extras(group: ScoredGroup, turn: int) -> dict[str, Any]:
    return {name: values[turn] for name, values in group.extras.items()}


def _json(note: Any) -> str:
    return json.dumps(note, ensure_ascii=False, default=str)


def read_trace(
    run: Path | str, rounds: Sequence[int] | None = None, columns: Sequence[str] | None = None
) -> pyarrow.Table:
    """A run's completions in order, of all rounds or of some. `.to_pylist()` or `.to_pandas()` makes rows.

    columns: those that are read, where they are there; a name with an asterisk stands for several ("rewards/*").
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(path for path in (Path(run) / "rollouts").glob("*.parquet") if path.stem.isdigit())
    if rounds is not None:
        paths = [path for path in paths if int(path.stem) in set(rounds)]
    if not paths:
        raise RunError(
            "there are no rollouts here", where=str(run), hint="Name a run that has done a round of GRPO."
        )

    def read(path: Path) -> pyarrow.Table:
        wanted = ["*"] if columns is None else columns
        names = [name for name in pq.read_schema(path).names if any(fnmatch(name, one) for one in wanted)]
        return pq.read_table(path, columns=names)

    return pa.concat_tables([read(path) for path in paths], promote_options="default")
