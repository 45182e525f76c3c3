"""What a run does at an alarm: warn once, pause, or go back to a good checkpoint; each can be resumed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_training_changes import Notes, recipe, rows

from grandrounds.errors import RecipeError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training import held_out as held_out_module
from grandrounds.training.folder import RunFolder
from grandrounds.training.monitor import monitor as monitor_module
from grandrounds.training.monitor.sign import Finding, Sign, Watched
from grandrounds.training.monitor.signs import SIGNS
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run, resume, train

SILENT = SilentProgress()


def show_in(monkeypatch: pytest.MonkeyPatch, *rounds: int) -> None:
    """Runs as small as these have no clear signs: one shows after these rounds."""

    def find(watched: Watched) -> Finding | None:
        now = watched.history.metrics[-1]["round"]
        assert len(watched.history.rounds) == len(watched.history.metrics) == now
        if now not in rounds:
            return None
        return Finding(
            "letter_bias", f"A is favoured in round {now}", "It is planted", "Dig it out", {"now": now}
        )

    monkeypatch.setattr(monitor_module, "SIGNS", {**SIGNS, "letter_bias": Sign("letter_bias", find)})


@pytest.fixture(autouse=True)
def one_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    show_in(monkeypatch, 2, 3, 4, 7)
    monkeypatch.setattr(monitor_module, "WINDOW", 2)  # fewer rounds will do


def guarded(rounds: int = 5, guard: dict[str, Any] | None = None, **sections: Any) -> Recipe:
    quiet = {name: "ignore" for name in SIGNS if name != "letter_bias"}
    guard = {"patience": 1000, **(guard or {})}
    guard["signs"] = {**quiet, **guard.get("signs", {})}
    return recipe(guard=guard, rounds=rounds, checkpoint={"every": 3, "keep": 1}, **sections)


def begin(made: Recipe, place: Path, **given: Any) -> tuple[Run, list[str]]:
    notes = Notes()
    return train(made, place, cases=rows(), progress=notes, **given), notes.lines


def on(run: Run, *changes: str, **given: Any) -> tuple[Run, list[str]]:
    notes = Notes()
    return resume(run.folder, changes, cases=rows(), progress=notes, **given), notes.lines


def learned(run: Run) -> dict[str, bytes]:
    names = ("checkpoints/*/model.safetensors", "checkpoints/*/optimizer.safetensors", "monitor.jsonl")
    return {
        str(file.relative_to(run.folder)): file.read_bytes()
        for name in names
        for file in run.folder.glob(name)
    }


def killed_after(number: int) -> Callable[[Any], None]:
    """Ctrl-C in this round."""

    def callback(done: Any) -> None:
        if done.position.round == number:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What is learned where nothing is done about signs."""
    made = with_overrides(guarded(), ["guard.action=ignore"])
    return train(made, tmp_path_factory.mktemp("plain") / "run", cases=rows(), progress=SILENT)


def test_a_sign_is_said_once_while_it_lasts_and_again_when_it_returns(tmp_path: Path) -> None:
    run, lines = begin(guarded(7), tmp_path / "run")
    assert run.finished
    said = [line for line in lines if line.startswith("Warning")]
    assert said == [
        f"Warning (letter_bias): A is favoured in round {number}. It is planted. Dig it out."
        for number in (2, 7)
    ]
    kept = RunFolder.open(run.folder).monitor()
    assert [row["round"] for row in kept] == list(range(1, 8))
    assert [row["round"] for row in kept if row["findings"]] == [2, 3, 4, 7]
    assert [row["round"] for row in kept if row["said"]] == [2, 7]
    assert kept[1]["findings"] == [
        {
            "sign": "letter_bias",
            "what": "A is favoured in round 2",
            "cause": "It is planted",
            "hint": "Dig it out",
            "numbers": {"now": 2},
        }
    ]
    mean, error, groups = kept[1]["readings"]["length"]
    assert 0 < mean <= 24
    assert error >= 0
    assert groups == 2


def test_a_resumed_run_reads_and_says_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, _ = begin(guarded(), tmp_path / "whole")
    begun, _ = begin(guarded(), tmp_path / "begun", callbacks=[killed_after(3)])
    assert not begun.finished
    ended, lines = on(begun)
    assert ended.finished
    assert not any(line.startswith("Warning") for line in lines)  # said before it was interrupted
    assert learned(ended) == learned(whole)


def test_watching_changes_nothing_of_what_is_learned(plain: Run, tmp_path: Path) -> None:
    run, _ = begin(guarded(), tmp_path / "run")
    name = "checkpoints/000005/model.safetensors"
    assert (run.folder / name).read_bytes() == (plain.folder / name).read_bytes()


def test_a_guard_switched_off_writes_nothing(tmp_path: Path) -> None:
    run, lines = begin(with_overrides(guarded(2), ["guard.enabled=false"]), tmp_path / "run")
    assert run.finished
    assert not (run.folder / "monitor.jsonl").exists()
    assert not any(line.startswith("Warning") for line in lines)


@pytest.mark.parametrize("guard", [{"action": "pause"}, {"signs": {"letter_bias": "pause"}}])
def test_a_paused_run_is_saved_and_goes_on_to_the_same_end(
    guard: dict[str, Any], plain: Run, tmp_path: Path
) -> None:
    run, lines = begin(guarded(guard=guard), tmp_path / "run")
    assert (run.finished, run.rounds) == (False, 2)
    assert any("Paused after round 2, because of letter_bias" in line for line in lines)
    assert RunFolder.open(run.folder).checkpoints.latest().name == "000002"
    ended, _ = on(run)
    assert (ended.finished, ended.rounds) == (True, 5)
    assert (run.folder / "checkpoints/000005/model.safetensors").read_bytes() == (
        plain.folder / "checkpoints/000005/model.safetensors"
    ).read_bytes()


def test_a_run_rolls_back_to_the_newest_checkpoint_before_the_fault_and_can_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    show_in(monkeypatch, 5)
    whole, _ = begin(guarded(), tmp_path / "whole")
    made = with_overrides(guarded(guard={"action": "roll_back"}), ["checkpoint.every=2", "checkpoint.keep=3"])
    run, lines = begin(made, tmp_path / "run")
    folder = RunFolder.open(run.folder)
    assert (run.finished, run.rounds) == (False, 2)  # round 4 lies in the window that shows the fault
    assert any("Rolled back from round 5 to round 2, because of letter_bias" in line for line in lines)
    assert folder.checkpoints.latest().name == "000002"
    assert len(folder.metrics()) == 5  # to be read until it is resumed
    assert on(run)[0].rounds == 2  # with nothing changed the same happens again
    assert [(row["round"], row["to"]) for row in rolled_back(run)] == [(5, 2), (5, 2)]
    assert rolled_back(run)[0]["findings"][0]["cause"] == "It is planted"
    ended, _ = on(run, "guard.action=warn")
    assert ended.finished
    assert (
        learned(ended)["checkpoints/000005/model.safetensors"]
        == (learned(whole)["checkpoints/000005/model.safetensors"])
    )
    assert len(rolled_back(run)) == 2  # no resume forgets it


def rolled_back(run: Run) -> list[dict[str, Any]]:
    lines = (run.folder / "rolled_back.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_where_nothing_good_was_kept_a_run_goes_back_to_its_cold_start(tmp_path: Path) -> None:
    run, _ = begin(guarded(guard={"action": "roll_back"}), tmp_path / "run")
    assert (run.finished, run.rounds) == (False, 0)  # the fault may have begun with round 1
    assert [path.name for path in RunFolder.open(run.folder).checkpoints.all()] == ["000000"]


def test_the_best_policy_is_kept_to_be_rolled_back_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = held_out_module._row

    def best_after_round_1(number: int, evaluation: Any) -> dict[str, Any]:
        return {**original(number, evaluation), "accuracy": float(number == 1)}

    monkeypatch.setattr(held_out_module, "_row", best_after_round_1)
    show_in(monkeypatch, 5)
    made = guarded(
        5, {"action": "roll_back"}, evaluation={"every": 1, "cases": 3}, cases={"test_fraction": 0.4}
    )
    run, _ = begin(made, tmp_path / "run")
    assert (run.finished, run.rounds) == (False, 1)  # not a checkpoint's round, and not among the newest
    state = json.loads((run.folder / "checkpoints/000001/state.json").read_text(encoding="utf-8"))
    assert state["round"] == 1
    assert on(run, "guard.action=warn")[0].finished


@pytest.mark.parametrize(
    "change", ["guard.signs.letter_bia=warn", "guard.signs.letter_bias=stop", "guard.action=x"]
)
def test_signs_and_actions_that_are_not_there_are_refused(change: str) -> None:
    with pytest.raises(RecipeError, match="guard"):
        with_overrides(guarded(), [change])
