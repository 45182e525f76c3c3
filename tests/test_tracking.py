"""Trackers are told what a run writes down; one that fails is dropped, and the run is the same without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training_changes import Notes, recipe, rows
from typer.testing import CliRunner

from grandrounds.cli.app import app
from grandrounds.errors import RunError
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import read_group
from grandrounds.tracking import known
from grandrounds.tracking.tracker import TrackedRun, Tracker
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run, resume, train
from grandrounds.training.tracked import TRACKERS, Tracking
from grandrounds.types import Answer, Case, Completion, Group, Prompt, ScoredGroup

SILENT = SilentProgress()
METHODS = ("begin", "numbers", "completions", "files", "end")


class Recording:
    """A tracker that keeps what it is told, and raises in one method if it is to."""

    def __init__(self, name: str = "recording", failing: str = "") -> None:
        self.name, self.failing = name, failing
        self.told: list[tuple[str, Any]] = []

    def _keep(self, method: str, *what: Any) -> None:
        self.told.append((method, *what))
        if method == self.failing:
            raise ConnectionError("the server is gone")

    def begin(self, run: TrackedRun) -> str:
        self._keep("begin", run)
        return "number 7"

    def numbers(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        self._keep("numbers", axis, step, dict(values))

    def completions(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self._keep("completions", number, list(rows))

    def files(self, files: Mapping[str, Path]) -> None:
        self._keep("files", {name: path.stat().st_size for name, path in files.items()})

    def end(self, ending: str) -> None:
        self._keep("end", ending)

    def of(self, method: str) -> list[Any]:
        """What a method was told, call by call."""
        return [what[0] if len(what) == 1 else what for name, *what in self.told if name == method]


def small(**changes: Any) -> Recipe:
    sections = {"rounds": 4, "evaluation": {"every": 2, "cases": 3}, "checkpoint": {"every": 2}, **changes}
    return recipe(
        cases={"test_fraction": 0.4},
        sft={"steps": 2, "batch_cases": 2, "too_long": "cut"},
        **sections,
    )


def run_of(folder: Path, *trackers: Any, **changes: Any) -> Run:
    further = {
        name: changes.pop(name) for name in ("callbacks", "progress", "track_completions") if name in changes
    }
    return train(
        small(**changes), folder, cases=rows(20), trackers=trackers, **{"progress": SILENT, **further}
    )


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recording]:
    tracker = Recording()
    return run_of(tmp_path_factory.mktemp("runs") / "run", tracker), tracker


def test_a_tracker_gets_every_number_under_its_metrics_name(tracked: tuple[Run, Recording]) -> None:
    run, tracker = tracked
    told = {(axis, step): values for axis, step, values in tracker.of("numbers")}
    assert list(told) == [("sft", 1), ("sft", 2), *(("round", step) for step in range(5))]
    for row in RunFolder.open(run.folder).metrics():
        wanted = {name: value for name, value in row.items() if name != "round" and value is not None}
        assert told["round", row["round"]] == pytest.approx(wanted)
    assert set(told["round", 0]) == {"held_out/accuracy", "held_out/format_rate"}
    assert "held_out/accuracy" in told["round", 4]
    assert "loss" in told["sft", 1]


def test_it_gets_the_recipe_as_parameters_and_the_runs_files(tracked: tuple[Run, Recording]) -> None:
    run, tracker = tracked
    (begun,) = tracker.of("begin")
    assert (begun.name, begun.folder, begun.known, begun.rounds) == ("run", run.folder, None, 0)
    assert begun.recipe["grpo.group_size"] == 2
    assert begun.recipe["rewards.length.options.buffer"] == 1.0
    assert begun.recipe["policy.precision"] == "float32"  # as settled, not as asked for
    first, last = tracker.of("files")
    assert set(first) == {"recipe.yaml", "environment.json"}
    assert {"recipe.yaml", "evaluations.jsonl", "policy/model.safetensors", "policy/tokenizer.json"} <= set(
        last
    )
    assert not [name for name in last if "optimizer" in name or "state" in name]
    assert tracker.of("end") == ["finished"]
    assert json.loads((run.folder / TRACKERS).read_text()) == {"recording": "number 7"}


def test_tables_of_completions_come_with_evaluations_or_as_often_as_asked(
    tracked: tuple[Run, Recording], tmp_path: Path
) -> None:
    tables = tracked[1].of("completions")
    assert [number for number, _ in tables] == [2, 4]
    assert len(tables[0][1]) == 4
    row = tables[0][1][0]
    assert {
        "case",
        "prompt",
        "completion",
        "gold",
        "correct",
        "reward",
        "advantage",
        "rewards/length",
    } <= set(row)
    assert row["prompt"].count("plus") == 1
    asked: dict[int, list[int]] = {}
    for every in (0, 3):
        tracker = Recording()
        run_of(tmp_path / str(every), tracker, track_completions=every)
        asked[every] = [number for number, _ in tracker.of("completions")]
    assert asked == {0: [], 3: [3, 4]}


def test_texts_come_visible_and_cut(tmp_path: Path) -> None:
    tracker, hostile = Recording(), "\x1b[31m\u202e"
    case = Case("1", "Why?", Answer("text", hostile))
    completion = Completion(np.arange(4), np.zeros(4, np.float32), hostile + "x" * 8000, "stop")
    samples = read_group(Group(Prompt(case, np.arange(3), hostile), (completion,)), Grammar(), 5)
    settings = recipe(prompt={"system": hostile})
    tracking = Tracking([tracker], 1, print)
    tracking.begin(RunFolder.create(tmp_path / "run", settings), settings, rounds=0, sft=0)
    tracking.round(1, {"reward": 0.0}, [ScoredGroup(samples, {}, np.zeros(1), ({},))])
    ((_, (row,)),) = tracker.of("completions")
    shown = "[U+001B][31m[U+202E]"
    assert [row["prompt"], row["gold"], tracker.of("begin")[0].recipe["prompt.system"]] == [shown] * 3
    assert row["completion"].startswith(f"{shown}xxx")
    assert row["completion"].endswith("x\n[cut here: 6 more characters are not shown]")


def test_a_large_policy_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grandrounds.training.tracked.SMALL", 1000)
    tracker = Recording()
    run_of(tmp_path / "run", tracker)
    assert not [name for name in tracker.of("files")[-1] if name.startswith("policy/")]


@pytest.mark.parametrize("method", METHODS)
def test_a_tracker_that_fails_is_dropped_with_one_warning_and_changes_nothing(
    method: str, tracked: tuple[Run, Recording], tmp_path: Path
) -> None:
    notes, failing, other = Notes(), Recording("failing", method), Recording("other")
    run = run_of(tmp_path / "run", failing, other, progress=notes)
    assert run.finished
    weights = "checkpoints/000004/model.safetensors"
    assert (run.folder / weights).read_bytes() == (tracked[0].folder / weights).read_bytes()
    warnings = [
        line
        for line in notes.lines
        if line.startswith("Warning: failing failed (ConnectionError: the server")
    ]
    assert len(warnings) == 1
    assert failing.told[-1][0] == method
    assert [name for name, *_ in other.told] == [name for name, *_ in tracked[1].told]


def test_a_run_that_was_stopped_or_failed_is_said_to_be_so(tmp_path: Path) -> None:
    stopped, failed = Recording(), Recording()
    run_of(tmp_path / "stopped", stopped, callbacks=[lambda done: True])
    assert stopped.of("end") == ["stopped"]

    def breaks(done: Any) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_of(tmp_path / "failed", failed, callbacks=[breaks])
    assert failed.of("end") == ["failed"]


def test_a_resumed_run_goes_on_with_its_trackers_own_run(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", Recording(), callbacks=[lambda done: done.position.round == 3])
    tracker, notes = Recording(), Notes()
    resume(run.folder, cases=rows(20), trackers=[tracker], progress=notes)
    (begun,) = tracker.of("begin")
    assert (begun.known, begun.rounds, begun.sft) == ("number 7", 3, 2)
    assert [step for _, step, _ in tracker.of("numbers")] == [4]
    assert len(tracker.of("files")) == 1  # what never changes is there already
    assert not [line for line in notes.lines if "tracked by" in line]
    resume(run.folder, ["rounds=5"], cases=rows(20), progress=notes)
    (told,) = [line for line in notes.lines if "tracked by" in line]
    assert "--track recording goes on there" in told


def test_another_tracker_joins_a_resumed_run_as_a_new_one(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", Recording("first"))
    second = Recording("second")
    resume(run.folder, ["rounds=5"], cases=rows(20), trackers=[Recording("first"), second], progress=SILENT)
    assert second.of("begin")[0].known is None
    assert set(json.loads((run.folder / TRACKERS).read_text())) == {"first", "second"}


def test_names_are_checked_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="no tracker `wandbb`") as error:
        run_of(tmp_path / "run", "wandbb")
    assert error.value.hint == "Did you mean `wandb`?"

    def missing() -> Tracker:
        raise ModuleNotFoundError("No module named 'trackio'")

    def half_installed() -> Tracker:
        raise RuntimeError("a library is too old")

    monkeypatch.setitem(known.TRACKERS, "trackio", missing)
    monkeypatch.setitem(known.TRACKERS, "mlflow", half_installed)
    with pytest.raises(RunError, match="trackio is not installed") as error:
        run_of(tmp_path / "run", "trackio")
    assert "pip install 'grandrounds[trackio]'" in error.value.hint
    with pytest.raises(RunError, match="mlflow cannot be loaded: a library is too old"):
        run_of(tmp_path / "run", "mlflow")
    assert not (tmp_path / "run").exists()


def test_the_command_line_names_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def trained(*_: Any, **further: Any) -> Run:
        told.append((list(further["trackers"]), further["track_completions"]))
        return Run(tmp_path, 0, finished=True)

    monkeypatch.setattr("grandrounds.training.run.train", trained)
    monkeypatch.setattr("grandrounds.training.run.resume", trained)
    both = ["--track", "mlflow", "--track", "wandb"]
    calls = (
        ["train", "clinic", *both, "--track-completions", "0"],
        ["resume", str(tmp_path), *both],
        ["sft", "clinic", *both],
    )
    for words in calls:
        assert CliRunner().invoke(app, words).exit_code == 0
    assert told == [(["mlflow", "wandb"], 0), (["mlflow", "wandb"], None), (["mlflow", "wandb"], None)]


def test_report_to_of_a_trl_script_names_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    from grandrounds.trl import GRPOConfig
    from grandrounds.trl import translate as translation

    assert translation.reported_to("none") == []
    assert translation.reported_to(["wandb", "comet_ml"]) == ["wandb"]
    monkeypatch.setattr(translation, "find_spec", lambda name: name == "mlflow" or None)
    assert translation.reported_to("all") == ["mlflow"]
    args = GRPOConfig("out", report_to=["wandb", "comet_ml"])
    note = translation.translate(args.to_dict(), args.given, 8).notes["report_to"]
    assert (note.kind, note.text) == ("changed", "wandb; there is no tracker comet_ml here")
    plain = GRPOConfig("out", report_to="tensorboard")
    assert translation.translate(plain.to_dict(), plain.given, 8).notes["report_to"].kind == "mapped"


def test_trackers_are_told_in_the_order_of_the_protocol(tracked: tuple[Run, Recording]) -> None:
    names = [name for name, *_ in tracked[1].told]
    assert (names[:2], names[-2:]) == (["begin", "files"], ["files", "end"])
    assert set(names) == set(METHODS)


def test_a_trl_script_is_tracked_and_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_trl_trainer import trainer
    from tiny_models import tiny_model_folder

    model, tracker = str(tiny_model_folder(tmp_path / "tiny", "llama")), Recording("wandb")
    monkeypatch.setitem(known.TRACKERS, "wandb", lambda: tracker)
    fields = {"report_to": ["wandb"], "run_name": "count"}
    trainer(model, tmp_path / "out", fields={**fields, "max_steps": 1}).train()
    trainer(model, tmp_path / "out", fields=fields).train(resume_from_checkpoint=True)
    assert [(run.name, run.known) for run in tracker.of("begin")] == [
        ("count-run", None),
        ("count-run", "number 7"),
    ]
    assert [(axis, step) for axis, step, _ in tracker.of("numbers")] == [("round", 1), ("round", 2)]
