"""Checkpoints are seen whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grandrounds.errors import RunError
from grandrounds.training.checkpoint import Checkpoints, read_state, write_state

# Saves a checkpoint in children, the n-th of which is killed at its n-th operation on files, and looks at what is left.
KILLED_WRITERS = """
import itertools, os, signal, sys
from pathlib import Path
from grandrounds.training.checkpoint import Checkpoints, damage_of

FILES = ("model.safetensors", "optimizer.safetensors", "tokenizer/vocab.json")
OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")

def write(folder):
    (folder / "tokenizer").mkdir()
    for name in FILES:
        (folder / name).write_bytes(name.encode() * 20_000)

def save_until(last):
    done = itertools.count(1)
    def watch(event, arguments):
        if event in OPERATIONS and next(done) == last:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    store.save(f"{last:06d}", write)
    store.prune(3)
    os._exit(0)

store = Checkpoints(Path(sys.argv[1]))
leftovers = 0
for last in itertools.count(1):
    child = os.fork()
    if not child:
        save_until(last)
    finished = os.waitpid(child, 0)[1] == 0
    leftovers += len(list(store.folder.glob(".*")))
    for checkpoint in store.all():
        assert damage_of(checkpoint) is None
        for name in FILES:
            assert (checkpoint / name).read_bytes() == name.encode() * 20_000
    if finished:
        break
print(last, leftovers)
"""


def contents(text: str):
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(text)

    return write


def test_a_writer_killed_at_any_moment_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, str(store.folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kills, leftovers = map(int, done.stdout.split())
    assert kills > 10
    assert leftovers > 3
    store.save("999999", contents("x"))
    assert not list(store.folder.glob(".*"))


def test_latest_is_the_newest_complete_one(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    assert store.latest() is None
    for number in (0, 20, 100):
        store.save(f"{number:06d}", contents(str(number)))
    assert [path.name for path in store.all()] == ["000000", "000020", "000100"]
    assert store.latest() == tmp_path / "000100"


@pytest.mark.parametrize("damage", ["missing", "shorter", "no manifest", "manifest of nonsense"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, damage: str) -> None:
    store = Checkpoints(tmp_path)
    store.save("000010", contents("ten"))
    path = store.save("000020", contents("twenty"))
    if damage == "missing":
        (path / "model.safetensors").unlink()
    elif damage == "shorter":
        (path / "model.safetensors").write_text("twen")
    elif damage == "no manifest":
        (path / "manifest.json").unlink()
    else:
        (path / "manifest.json").write_text("[]")
    warnings: list[str] = []
    assert store.latest(warnings.append) == tmp_path / "000010"
    assert len(warnings) == 1
    assert "000020" in warnings[0]
    store.save("000020", contents("twenty again"))
    assert store.latest() == path


def test_pruning_keeps_the_cold_start_and_the_newest(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    for number in (0, 10, 20, 30, 40):
        store.save(f"{number:06d}", contents("x"))
    store.prune(2)
    assert [path.name for path in store.all()] == ["000000", "000030", "000040"]
    store.prune(0)
    assert [path.name for path in store.all()] == ["000000", "000040"]


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_clear_error_and_the_former_checkpoint_stays(
    tmp_path: Path, full: Exception
) -> None:
    store = Checkpoints(tmp_path)
    store.save("000010", contents("ten"))

    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise full

    with pytest.raises(RunError, match="the disk is full") as caught:
        store.save("000020", write)
    assert "resume" in caught.value.hint
    assert store.latest() == tmp_path / "000010"
    assert (tmp_path / "000010/model.safetensors").read_text() == "ten"
    assert os.listdir(tmp_path) == ["000010"]


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root"
)
def test_a_really_full_disk(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = Checkpoints(tmp_path / "checkpoints")
        store.save("000000", lambda folder: write_state(folder, {"w": torch.zeros(1000)}, {"round": 0}))
        with pytest.raises(RunError, match="the disk is full"):
            store.save("000001", lambda folder: write_state(folder, {"w": torch.zeros(1_000_000)}, {}))
        assert store.latest() == store.folder / "000000"
        assert os.listdir(store.folder) == ["000000"]
        assert read_state(store.folder / "000000")[1] == {"round": 0}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_other_errors_of_the_writer_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)

    def write(folder: Path) -> None:
        (folder / "x").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.save("000001", write)
    assert os.listdir(tmp_path) == []


def test_state_comes_back_as_it_was_and_as_the_same_bytes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {"b.step": torch.tensor(3.0), "a.exp_avg": torch.arange(6.0).reshape(2, 3).T}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_state(tmp_path / name, tensors, {"round": 20, "draws": 640})
    back, counters = read_state(tmp_path / "one")
    assert counters == {"round": 20, "draws": 640}
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    for name in ("optimizer.safetensors", "state.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_unreadable_state_is_a_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_state(tmp_path, {}, {"round": 1})
    assert read_state(tmp_path) == ({}, {"round": 1})
    (tmp_path / "optimizer.safetensors").write_bytes(b"\x01")
    with pytest.raises(RunError, match="optimizer state"):
        read_state(tmp_path)


def test_the_manifest_lists_every_file_below_the_checkpoint(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep/file").write_text("12345")

    path = Checkpoints(tmp_path).save("000001", write)
    assert json.loads((path / "manifest.json").read_text()) == {"files": {"deep/file": 5}}
