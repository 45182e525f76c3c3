"""The page beside a training: it says its address once, reads while the run grows, and can do the run no harm."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from view_support import make_run, make_trl_run, row, write_lines, write_round

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("polars")

from grandrounds.view import watching
from grandrounds.view.watching import watched


def until(lines: list[str], seconds: float = 30) -> str:
    """What was said first."""
    for _ in range(int(seconds * 20)):
        if lines:
            return lines[0]
        time.sleep(0.05)
    raise AssertionError("nothing was said")


def get(address: str, path: str) -> dict:  # type: ignore[type-arg]
    with urllib.request.urlopen(address + path, timeout=20) as got:
        return json.loads(got.read())


def test_the_page_follows_a_run_that_has_yet_to_begin_and_ends_with_it(tmp_path: Path) -> None:
    said: list[str] = []
    run = tmp_path / "run"
    with watched(run, said.append):
        address = until(said).split()[-1]
        assert address.startswith("http://127.0.0.1:")
        assert get(address, "api/runs")["runs"][0]["completions"] == 0
        with urllib.request.urlopen(address + "api/events", timeout=20) as events:
            assert events.readline() == b"event: hello\n"
            make_run(run, [row(1, 0, 0)], [{"round": 1, "reward": 0.5}])
            changes = [events.readline() for _ in range(4)]
            assert b"event: change\n" in changes
            assert b"data: [0]\n" in changes
        write_round(run, [row(2, 0, 0)])
        write_lines(run / "metrics.jsonl", [{"round": 2, "reward": 0.7}])
        assert get(address, "api/runs")["runs"][0]["completions"] == 2
        assert get(address, "api/runs/0/curves")["columns"]["reward"] == [0.5, 0.7]
    assert len(said) == 1
    with pytest.raises(OSError):
        get(address, "api/runs")


def test_a_page_that_cannot_start_lets_the_training_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(watching.sys, "executable", str(tmp_path / "no-python"))
    with watched(tmp_path, said.append):
        trained = True
    assert trained
    assert said[0].startswith("The page could not be started; training goes on")


def test_a_page_that_dies_lets_the_training_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    program = tmp_path / "dies"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(watching.sys, "executable", str(program))
    with watched(tmp_path, said.append):
        until(said)
    assert said == ["The page could not be started; training goes on without it."]


def test_the_page_ends_when_its_training_is_killed(tmp_path: Path) -> None:
    page = subprocess.Popen(
        [sys.executable, "-m", "grandrounds.view.watching", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert page.stdout is not None
    assert page.stdin is not None
    assert b"http://127.0.0.1:" in page.stdout.readline()
    page.stdin.close()
    assert page.wait(timeout=20) == 0


def test_the_command_serves_several_runs_and_prints_the_address(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "one", [row(1, 0, 0)]), make_trl_run(tmp_path / "two")]
    command = [
        sys.executable,
        "-m",
        "grandrounds",
        "view",
        *map(str, folders),
        "--no-browser",
        "--host",
        "::1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as serving:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        try:
            if "cannot be served" in line:
                pytest.skip("this machine has no IPv6")
            address = line.split()[0]
            assert [one["name"] for one in get(address, "api/runs")["runs"]] == ["one", "two"]
        finally:
            serving.terminate()
            serving.wait(timeout=20)


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grandrounds", "view", str(tmp_path), "--no-browser"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no run here" in done.stderr
    assert "Traceback" not in done.stderr
