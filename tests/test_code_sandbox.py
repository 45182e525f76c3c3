"""Programs that nobody has read run apart: each is contained, ends with a cause, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from code_support import HOSTILE, PORT, PYTHON, SECRET, SECRET_FILE, sandbox

from grandrounds.domains.code import runtimes
from grandrounds.domains.code.runtimes import Command, Limits, Runtime, find_runtime
from grandrounds.domains.code.sandbox import run
from grandrounds.errors import RewardError

LIMITS = Limits(seconds=2, memory_mb=256, processes=32, output_kb=64)


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return sandbox()


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A secret in a file and in the environment, and a port that listens: where each is."""
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("GRANDROUNDS_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        yield {SECRET_FILE: str(tmp_path / "secret"), PORT: str(port), PYTHON: sys.base_prefix}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained(runtime: Runtime, planted: dict[str, str], name: str) -> None:
    program, end = HOSTILE[name]
    for mark, place in planted.items():
        program = program.replace(mark, place)
    outcome = run(runtime, program, b"", LIMITS)
    assert re.search(end, outcome.cause) if end else outcome.cause == "", outcome
    assert len(outcome.cause) < 300
    assert SECRET.encode() not in outcome.stdout + outcome.stderr
    assert len(outcome.stdout) < 4 * LIMITS.output_kb * 2**10
    left = [child for child in psutil.Process().children(recursive=True) if "bwrap" in child.name()]
    assert not left


def test_a_daemon_does_not_outlive_its_sandbox(runtime: Runtime) -> None:
    mark = f"sleeper-{os.getpid()}"
    started = f"[sys.executable, '-c', 'import time; time.sleep(999)', {mark!r}], start_new_session=True"
    program = f"import subprocess, sys; subprocess.Popen({started})"
    assert run(runtime, program, b"", LIMITS).ended_well
    assert not [one for one in psutil.process_iter(["cmdline"]) if mark in (one.info["cmdline"] or [])]


def test_a_program_reads_its_input_and_prints_its_answer(runtime: Runtime) -> None:
    text = "Grüße\n" * 5_000
    outcome = run(runtime, "import sys; print(sys.stdin.read(), end='')", text.encode(), LIMITS)
    assert outcome.ended_well
    assert outcome.stdout.decode() == text


def test_a_program_that_is_no_python_fails(runtime: Runtime) -> None:
    for program in ("def f(:", "\0", "\ud800", "x = 1" * 10**6):
        assert re.search("exited with code 1|printed more than", run(runtime, program, b"", LIMITS).cause)


def test_without_a_sandbox_it_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes.shutil, "which", lambda tool: None)
    runtimes._reason_against.cache_clear()
    with pytest.raises(
        RewardError, match=r"no sandbox.*bubblewrap: not installed.*apt-get install bubblewrap"
    ):
        find_runtime("auto", "python:3-slim")
    runtimes._reason_against.cache_clear()


def test_a_container_that_answers_serves_where_bubblewrap_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a tool that only pretends: it notes how it is called, and runs Python as it is."""
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" = kill ] && exit\n'
        f'while [ "$1" != python3 ]; do shift; done\nshift\nexec {sys.executable} "$@"\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(runtimes.shutil, "which", lambda tool: str(docker) if tool == "docker" else None)
    runtimes._reason_against.cache_clear()
    runtime = find_runtime("auto", "python:3-slim")
    runtimes._reason_against.cache_clear()
    assert runtime.name == "docker"
    assert run(runtime, "print(input())", b"x", LIMITS).stdout == b"x\n"
    calls = (tmp_path / "calls").read_text()
    assert "--network none --read-only" in calls
    assert "--memory 256m" in calls
    assert f"kill {re.findall(r'--name (grandrounds-[0-9a-f]+)', calls)[-1]}" in calls


def test_unsafe_has_to_be_asked_for_by_name(tmp_path: Path) -> None:
    unsafe = find_runtime("unsafe", "python:3-slim")
    assert unsafe.name == "no sandbox"
    assert run(unsafe, "print(input())", b"x\n", LIMITS).stdout == b"x\n"
    assert "took longer" in run(unsafe, "import time; time.sleep(99)", b"", LIMITS).cause
    with pytest.raises(RewardError, match="no sandbox `off`"):
        find_runtime("off", "python:3-slim")


def test_a_sandbox_that_does_not_start_is_an_error_and_no_failure_of_the_program() -> None:
    broken = Runtime("broken", lambda limits: Command(("sh", "-c", "echo no memory left >&2; exit 1")))
    with pytest.raises(RewardError, match="broken: the sandbox did not start: no memory left"):
        run(broken, "print(1)", b"", LIMITS)
