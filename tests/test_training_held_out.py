"""Evaluation while training: the same cases each time, the best policy kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_training_changes import Notes, recipe, rows

from grandrounds import evaluate
from grandrounds.recipe import Recipe
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run, resume, train

SILENT = SilentProgress()


def evaluated(every: int = 2, **changes: Any) -> Recipe:
    how = {"every": every, "cases": 3, **changes.pop("evaluation", {})}
    return recipe(cases={"test_fraction": 0.4}, evaluation=how, **{"rounds": 5, **changes})


def weights(run: Run, checkpoint: str) -> bytes:
    return (run.folder / "checkpoints" / checkpoint / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str]]:
    notes = Notes()
    return train(
        evaluated(), tmp_path_factory.mktemp("runs") / "run", cases=rows(40), progress=notes
    ), notes.lines


def test_the_same_held_out_cases_are_evaluated_at_the_start_every_few_rounds_and_at_the_end(
    run: tuple[Run, list[str]],
) -> None:
    folder = RunFolder.open(run[0].folder)
    found = folder.evaluations()
    assert [row["round"] for row in found] == [0, 2, 4, 5]
    assert {tuple(row["right"]) for row in found} == {tuple(found[0]["right"])}
    assert len(found[0]["right"]) == 3
    assert [row["round"] for row in folder.metrics() if "held_out/accuracy" in row] == [2, 4, 5]
    said = next(line for line in run[1] if line.startswith("Held-out accuracy"))
    assert "after round 0" in said
    assert "after round 5; best by accuracy after round" in said


def test_evaluating_changes_nothing_of_what_is_learned(run: tuple[Run, list[str]], tmp_path: Path) -> None:
    plain = train(evaluated(every=0), tmp_path / "plain", cases=rows(40), progress=SILENT)
    assert weights(plain, "000005") == weights(run[0], "000005")
    assert not (plain.folder / "evaluations.jsonl").exists()
    assert not (plain.folder / "checkpoints/best").exists()


def test_the_best_policy_is_kept_and_can_be_evaluated(run: tuple[Run, list[str]]) -> None:
    state = json.loads((run[0].folder / "checkpoints/best/state.json").read_text(encoding="utf-8"))
    found = RunFolder.open(run[0].folder).evaluations()
    best = max(found, key=lambda row: (row["accuracy"], -row["round"]))
    assert state == {"round": best["round"], "measure": "accuracy"}
    again = evaluate(run[0].folder / "checkpoints/best", rows(40), limit=3)
    assert again.count == 3


def stop_after(number: int) -> Callable[[Any], None]:
    def stop(done: Any) -> None:
        if done.position.round == number:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    return stop


def test_a_resumed_run_evaluates_as_the_uninterrupted_one(run: tuple[Run, list[str]], tmp_path: Path) -> None:
    begun = train(evaluated(), tmp_path / "begun", cases=rows(40), callbacks=[stop_after(3)], progress=SILENT)
    assert not begun.finished
    ended = resume(begun.folder, cases=rows(40), progress=SILENT)
    for name in ("evaluations.jsonl", "checkpoints/best/model.safetensors", "checkpoints/best/state.json"):
        assert (ended.folder / name).read_bytes() == (run[0].folder / name).read_bytes()
    assert weights(ended, "000005") == weights(run[0], "000005")


def test_a_run_stops_where_no_evaluation_brings_a_better_policy_and_can_be_gone_on_with(
    tmp_path: Path,
) -> None:
    notes = Notes()
    how = evaluated(every=1, rounds=9, evaluation={"patience": 2, "best": "format_rate"})
    run = train(how, tmp_path / "run", cases=rows(40), progress=notes)
    assert run.finished  # by itself, not by an interruption
    assert run.rounds == 2  # a policy from scratch keeps no form at all
    assert any("2 evaluations in a row brought no better policy" in line for line in notes.lines)
    assert resume(run.folder, cases=rows(40), progress=SILENT).rounds == 2
    assert (
        resume(run.folder, ["evaluation.patience=0", "rounds=3"], cases=rows(40), progress=SILENT).rounds == 3
    )


def test_a_run_without_held_out_cases_says_at_the_start_that_none_are_evaluated(tmp_path: Path) -> None:
    notes = Notes()
    run = train(recipe(evaluation={"every": 1}), tmp_path / "run", cases=rows(), progress=notes)
    assert any(line.startswith("Nothing is evaluated while training") for line in notes.lines)
    assert not (run.folder / "evaluations.jsonl").exists()
