"""A run's folder: begun once, locked by one process, whole after a kill."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from grandrounds.errors import RunError
from grandrounds.recipe_file import recipe_from
from grandrounds.training.environment import differences, environment
from grandrounds.training.folder import RunFolder
from grandrounds.types import Answer, Case, CaseBook

HOLDER = """
import os, sys, time
from pathlib import Path
from grandrounds.training.lock import lock
with lock(Path(sys.argv[1])):
    forked = len(sys.argv) > 2
    if not forked or os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def hold(path: Path, *arguments: str) -> tuple[subprocess.Popen, int]:
    """A process that holds the run's lock, and its own id, or that of the child it forked."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", recipe_from({"seed": 7}))


def test_a_run_reads_its_own_recipe_back(run: RunFolder) -> None:
    assert RunFolder.open(run.path).recipe() == recipe_from({"seed": 7})


def test_a_run_that_has_learned_is_never_overwritten(run: RunFolder) -> None:
    run.append_metrics({"round": 1})
    with pytest.raises(RunError, match="already") as caught:
        RunFolder.create(run.path, recipe_from({}))
    assert f"grandrounds resume {run.path}" in caught.value.hint
    assert run.recipe().seed == 7


def test_a_run_that_never_began_to_learn_may_be_begun_anew(run: RunFolder) -> None:
    assert RunFolder.create(run.path, recipe_from({"seed": 8})).recipe().seed == 8


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("…")
    with pytest.raises(RunError, match="not empty"):
        RunFolder.create(tmp_path, recipe_from({}))
    with pytest.raises(RunError, match="this is a file"):
        RunFolder.create(tmp_path / "thesis.txt", recipe_from({}))
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_what_is_no_run_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        RunFolder.open(tmp_path / "absent")


def test_a_half_written_last_row_is_dropped_on_resume(run: RunFolder) -> None:
    for number in (1, 2, 3):
        run.append_metrics({"round": number, "reward": np.float32(0.5), "accuracy": np.int64(1)})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"round": 4, "rew')
    assert [row["round"] for row in run.metrics()] == [1, 2, 3]
    run.rewind(2)
    run.append_metrics({"round": 3})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3]


def test_metrics_are_strict_json(run: RunFolder) -> None:
    run.append_metrics({"round": 1, "loss": float("nan"), "grad_norm": np.float64("inf"), "name": "ß"})
    assert run.metrics() == [{"round": 1, "loss": None, "grad_norm": None, "name": "ß"}]


def test_rewinding_removes_later_rollouts(run: RunFolder) -> None:
    rollouts = run.path / "rollouts"
    rollouts.mkdir()
    for number in (1, 2, 3):
        (rollouts / f"{number:06d}.parquet").touch()
    run.rewind(1)
    assert os.listdir(rollouts) == ["000001.parquet"]


def test_what_was_fitted_comes_back(run: RunFolder) -> None:
    assert run.fitted() is None
    run.write_fitted({"labels": ["OMIM:1"], "seed": 0})
    assert run.fitted() == {"labels": ["OMIM:1"], "seed": 0}


def test_the_split_is_recorded_by_what_it_asks(run: RunFolder) -> None:
    case = Case("1", "Which?", Answer("choice", "gout", letter="A"), {"A": "gout", "B": "mumps"})
    run.write_split(CaseBook(train=[case], test=[]))
    line = '["1", "Which?", [], [["A", "gout"], ["B", "mumps"]], "choice", "gout", null]\n'
    assert run.split() == {
        "train": {"cases": 1, "sha256": hashlib.sha256(line.encode()).hexdigest()},
        "held_out": {"cases": 0, "sha256": hashlib.sha256().hexdigest()},
    }
    RunFolder.create(run.path, recipe_from({}))  # begun anew, perhaps on other cases
    assert run.split() is None


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_one_process_at_a_time_trains_a_run(run: RunFolder) -> None:
    holder, _ = hold(run.path)
    try:
        with pytest.raises(RunError, match=rf"process \({holder.pid}\)"), run.locked():
            pass
        with pytest.raises(RunError, match="another process"):
            RunFolder.create(run.path, recipe_from({}))
    finally:
        holder.kill()
        holder.communicate()
    with run.locked():  # a killed process's lock is taken over
        assert (run.path / ".lock").read_text().strip() == str(os.getpid())


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_lock_does_not_outlive_its_process_in_a_child(run: RunFolder) -> None:
    holder, child = hold(run.path, "fork")
    try:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with run.locked():
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.communicate()


def test_taking_the_lock_sweeps_up_after_killed_writers(run: RunFolder) -> None:
    leftover = run.path / "checkpoints" / ".writing-000020"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").touch()
    (run.path / ".writing-metrics.jsonl").touch()
    with run.locked():
        assert not leftover.exists()
        assert not (run.path / ".writing-metrics.jsonl").exists()


def test_the_environment_names_no_user_and_no_host(tmp_path: Path) -> None:
    data = tmp_path / "cases.jsonl"
    data.write_text("{}\n")
    written = environment([data])
    text = json.dumps(written)
    assert set(written["data"]) == {"cases.jsonl"}
    assert str(Path.home()) + "/" not in text
    assert socket.gethostname() not in text
    assert "user" not in written
    assert getpass.getuser() not in written.values()


def test_changed_data_stops_a_resumed_run(tmp_path: Path) -> None:
    data = tmp_path / "cases.jsonl"
    data.write_text("{}\n")
    run = RunFolder.create(tmp_path / "run", recipe_from({"cases": {"source": str(data)}}))
    assert run.environment_changes() == []
    data.write_text("{}\n{}\n")
    with pytest.raises(RunError, match=r"cases\.jsonl is not the file"):
        run.environment_changes()


def test_changed_versions_are_named() -> None:
    now = environment()
    before = {**now, "packages": {**now["packages"], "numpy": "1.0"}}
    assert differences(now, now) == []
    assert differences(before, now) == [f"numpy 1.0 -> {now['packages']['numpy']}"]
