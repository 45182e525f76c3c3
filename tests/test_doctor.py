"""The doctor says what is wrong with a machine and how to fix it, without the network."""

from __future__ import annotations

import importlib
import json
import socket
from pathlib import Path

import pytest

from grandrounds import doctor
from grandrounds.cli.doctor import show_doctor
from grandrounds.doctor import Finding, available_memory, diagnose, differs
from grandrounds.domain import Domain
from grandrounds.errors import RewardError


def test_this_machine_can_train_and_nobody_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the doctor used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    findings = diagnose()
    assert not [finding for finding in findings if finding.level == "bad"]
    assert any("products right" in finding.what for finding in findings)
    assert all(finding.hint for finding in findings if finding.level != "ok")


def test_a_package_too_old_is_bad_and_one_never_tested_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"torch": "2.0.1", "transformers": "9.9.0", "peft": "1.0"}
    monkeypatch.setattr(doctor, "version", lambda name: versions.get(name))
    monkeypatch.setattr(doctor, "tested_versions", lambda: {"transformers": "5.23.0", "peft": "1.0.3"})
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda _: ["torch>=2.6", "transformers>=5", "peft", "rich"]
    )
    bad, missing, ok, warn = doctor._packages()
    assert (bad.level, missing.level, ok.level, warn.level) == ("bad", "bad", "ok", "warn")
    assert "torch 2.0.1 is not >=2.6" in bad.what
    assert "rich is not installed" in missing.what
    assert "transformers 9.9.0 (tested: 5.23.0)" in warn.what
    assert "peft" not in warn.what


def test_a_torch_that_cannot_be_loaded_is_a_finding_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert "libcudart" in diagnose()[-1].what


@pytest.mark.parametrize(("free", "level"), [(0.1, "bad"), (2, "warn"), (50, "ok")])
def test_little_disk_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, level: str
) -> None:
    usage = type("usage", (), {"free": int(free * doctor.GIB)})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    (finding,) = doctor._disk(tmp_path / "not/made/yet")
    assert finding.level == level


def test_a_containers_memory_limit_counts(tmp_path: Path) -> None:
    alone = available_memory(tmp_path)
    assert alone > 10_000
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 800\nactive_file 50\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 10_000
    (tmp_path / "memory.max").write_text("5000\n")
    assert available_memory(tmp_path) == 5000 - (1000 - 150)


def test_patch_releases_count_as_tested() -> None:
    assert not differs("2.13.4+cpu", "2.13.0")
    assert differs("2.14.0", "2.13.0")
    assert not differs("2.14.0", None)
    assert all("==" not in pinned for pinned in doctor.tested_versions().values())


def test_too_many_threads_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "threads", lambda: 10_000)
    (finding,) = doctor._threads()
    assert finding == Finding("threads", "warn", finding.what, finding.hint)
    assert "OMP_NUM_THREADS" in finding.hint


def test_one_thread_is_not_called_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "threads", lambda: 1)
    (finding,) = doctor._threads()
    assert finding.what.startswith("1 thread for ")


def test_what_a_domain_needs_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RewardError("there is no sandbox", hint="Install one.")

    there = Domain("there", needs=lambda: "programs run in a box")
    monkeypatch.setattr(
        doctor, "domains", lambda: (there, Domain("without"), Domain("missing", needs=missing))
    )
    assert list(doctor._domains()) == [
        Finding("there", "ok", "programs run in a box"),
        Finding("missing", "warn", "there is no sandbox", "Install one."),
    ]


def test_the_doctor_tells_machines_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda: [Finding("disk", "bad", "full", "Empty it.")])
    with pytest.raises(SystemExit):
        show_doctor(as_json=True)
    assert json.loads(capsys.readouterr().out) == [
        {"name": "disk", "level": "bad", "what": "full", "hint": "Empty it."}
    ]
