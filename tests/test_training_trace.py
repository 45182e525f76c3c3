"""The trace holds every completion with all that was made of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from grandrounds.errors import RunError
from grandrounds.recipe_file import recipe_from
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import read_group
from grandrounds.training.folder import RunFolder
from grandrounds.training.trace import read_trace
from grandrounds.types import Answer, Case, Completion, Group, Prompt, Sample, ScoredGroup

TEXTS = ("<reasoning>Because.</reasoning><answer>B. Measles</answer>", "no tags … ünïcode\n")


def samples_of(case_id: str) -> tuple[Sample, ...]:
    case = Case(case_id, "What is it?", Answer("choice", "Measles", "B"), {"A": "Mumps", "B": "Measles"})
    completions = tuple(
        Completion(np.arange(4 + i), np.zeros(4 + i, np.float32), text, "stop" if i == 0 else "length")
        for i, text in enumerate(TEXTS)
    )
    return read_group(Group(Prompt(case, np.arange(3), f"prompt of {case_id}"), completions), Grammar(), 5)


def write(run: RunFolder, number: int, *case_ids: str, **more: tuple[float | None, ...]) -> None:
    scores = {"accuracy": (1.0, 0.0), **more}
    notes = ({"accuracy": "letter. text"}, {})
    groups = [ScoredGroup(samples_of(case), scores, np.array([1.2, 0.0]), notes) for case in case_ids]
    run.write_rollouts(number, [group.with_advantages(np.array([0.7, -0.7])) for group in groups])


def test_every_completion_comes_back_with_all_that_was_made_of_it(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", recipe_from({}))
    write(run, 1, "a", "a", tone=(None, 0.5))
    write(run, 2, "b")
    rows = read_trace(run.path).to_pylist()
    assert [(row["round"], row["group"], row["case_id"], row["sample"]) for row in rows] == [
        (1, 0, "a", 0),
        (1, 0, "a", 1),
        (1, 1, "a", 0),
        (1, 1, "a", 1),
        (2, 0, "b", 0),
        (2, 0, "b", 1),
    ]
    first, second = rows[:2]
    assert first["prompt"] == "prompt of a"
    assert (first["completion"], second["completion"]) == TEXTS
    assert (first["finish"], first["length"]) == ("stop", 4)
    assert (first["reward"], first["advantage"], first["rewards/accuracy"]) == (1.2, 0.7, 1.0)
    assert (first["rewards/tone"], second["rewards/tone"], rows[5]["rewards/tone"]) == (None, 0.5, None)
    assert (first["answer"], first["gold"], first["correct"]) == ("B. Measles", "Measles", True)
    assert (second["answer"], second["correct"]) == (None, False)
    assert first["defects"] == []
    assert "answer_missing" in second["defects"]
    assert first["notes"] == '{"accuracy": "letter. text"}'
    assert read_trace(run.path, [2]).num_rows == 2


def test_the_same_round_gives_the_same_bytes_and_no_leftovers(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", recipe_from({}))
    path = run.path / "rollouts/000001.parquet"
    write(run, 1, "a")
    before = path.read_bytes()
    write(run, 1, "a")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["000001.parquet"]


def test_a_run_without_rollouts_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no rollouts"):
        read_trace(tmp_path)
