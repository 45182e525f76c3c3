"""Folders of runs for the viewer's tests: ours and TRL's, made without training."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

RECIPE = {
    "name": "made",
    "rounds": 40,
    "policy": {"model": "scratch"},
    "cases": {"source": "clinic"},
    "grpo": {"group_size": 4},
    "prompt": {"reasoning_tag": "reasoning", "answer_tag": "answer"},
    "rewards": {
        "accuracy": {"weight": 1.0},
        "sound": {"use": "validity", "weight": 0.5},
        "format": {"gate": True},
    },
}
SCHEMA = pa.schema(
    [
        ("round", pa.int32()),
        ("group", pa.int32()),
        ("case_id", pa.string()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("question", pa.string()),
        ("facts", pa.list_(pa.string())),
        ("completion", pa.string()),
        ("finish", pa.string()),
        ("length", pa.int32()),
        ("rewards/accuracy", pa.float64()),
        ("rewards/sound", pa.float64()),
        ("reward", pa.float64()),
        ("advantage", pa.float64()),
        ("answer", pa.string()),
        ("given", pa.string()),
        ("gold", pa.string()),
        ("correct", pa.bool_()),
        ("defects", pa.list_(pa.string())),
        ("notes", pa.string()),
        ("extras", pa.string()),
    ]
)


def row(number: int, group: int, sample: int, **more: Any) -> dict[str, Any]:
    """One completion, as the trace keeps it."""
    usual = {
        "case_id": f"case-{group}",
        "prompt": "<|user|>\nFever, no cough. What is it?\n<|assistant|>",
        "question": "Fever, no cough. What is it?",
        "facts": ["fever", "no cough"],
        "completion": "<reasoning>Findings: fever; no cough; rash.</reasoning><answer>Flu</answer>",
        "finish": "stop",
        "length": 20,
        "rewards/accuracy": 1.0,
        "rewards/sound": 1.0,
        "reward": 1.5,
        "advantage": 0.0,
        "answer": "Flu",
        "given": "flu",
        "gold": "Flu",
        "correct": True,
        "defects": [],
        "notes": '{"accuracy": "exact"}',
        "extras": "{}",
    }
    return {"round": number, "group": group, "sample": sample, **usual, **more}


def write_round(run: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema = SCHEMA) -> Path:
    """Write one round's file."""
    path = run / "rollouts" / f"{rows[0]['round']:06d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)
    return path


def make_run(run: Path, rows: Sequence[dict[str, Any]] = (), metrics: Sequence[dict[str, Any]] = ()) -> Path:
    """A run's folder with these completions and rows of metrics."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    write_lines(run / "metrics.jsonl", metrics)
    for number in sorted({one["round"] for one in rows}):
        write_round(run, [one for one in rows if one["round"] == number])
    return run


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    """Add JSON lines to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)


def random_rows(seed: int, rounds: int = 5, groups: int = 13, size: int = 4) -> list[dict[str, Any]]:
    """Completions of every kind, with gaps wherever a run may have them."""
    draw = random.Random(seed)
    rows = []
    for number in range(1, rounds + 1):
        for group in range(groups):
            alike = draw.random() < 0.5
            given, reward = draw.choice(["flu", "gout", None]), draw.choice([0.0, 1.0, 1.5])
            for sample in range(size):
                rows.append(
                    row(
                        number,
                        group,
                        sample,
                        case_id=f"case-{draw.randrange(20)}" if sample == 0 else rows[-1]["case_id"],
                        completion=draw.choice(
                            ["Fever at night.", "FEVER (high)", "fev.er", "nothing", "100% [sure]"]
                        ),
                        finish=draw.choice(["stop", "length"]),
                        length=draw.randrange(1, 400),
                        reward=reward if alike else draw.choice([0.0, 0.5, 1.0, 1.5]),
                        given=given if alike else draw.choice(["flu", "gout", "cold", None]),
                        correct=draw.choice([True, False, False, None]) if not alike else given == "flu",
                        defects=draw.choice([[], [], ["answer_missing"]]),
                        **{"rewards/sound": draw.choice([1.0, 0.5, None])},
                    )
                )
    return rows


def make_trl_run(folder: Path, *, chat: bool = True, steps: int = 3) -> Path:
    """An output_dir as TRL's GRPOTrainer writes it with log_completions: two prompts, each drawn twice in a row."""
    (folder / "completions").mkdir(parents=True)
    history = []
    for step in range(1, steps + 1):
        texts = [f"{place} because <answer>{'4' if place % 2 else '5'}</answer>" for place in range(8)]
        questions = ["What is 2 + 2?"] * 4 + ["What is 3 + 1?"] * 2 + ["And 5 - 1?"] * 2
        table = {
            "step": [step] * 8,
            "prompt": [[{"role": "user", "content": one}] for one in questions] if chat else questions,
            "completion": [[{"role": "assistant", "content": one}] for one in texts] if chat else texts,
            "accuracy_reward": [float(place % 2) for place in range(8)],
            "brevity": [0.25] * 8,
            "solution": ["4"] * 8,
            "confidence": [0.5] * 8,
            "advantage": [1.0 if place % 2 else -1.0 for place in range(8)],
        }
        pq.write_table(pa.table(table), folder / "completions" / f"completions_{step:05d}.parquet")
        means = {"rewards/accuracy_reward/mean": 0.5, "rewards/brevity/mean": 0.25, "reward": 0.75}
        history.append({"step": step, "loss": 0.1 * step, "kl": float("nan"), **means})
    state = {"global_step": steps, "max_steps": 10, "log_history": history}
    (folder / f"checkpoint-{steps}").mkdir()
    (folder / f"checkpoint-{steps}" / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return folder
