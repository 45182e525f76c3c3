"""A run killed at any moment and resumed equals the uninterrupted run, byte for byte."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pkgutil
import signal
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from grandrounds.recipe_file import recipe_from, with_overrides
from grandrounds.training.folder import RunFolder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")

RECIPE = {
    "name": "killed",
    "rounds": 8,
    "cases": {"source": "clinic", "clinic_train": 60, "clinic_test": 4},
    "policy": {"scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 800}},
    "sft": {"steps": 4, "batch_cases": 4},
    "grpo": {
        "group_size": 3,
        "cases_per_round": 3,
        "max_new_tokens": 320,
        "learning_rate": 1e-3,
        "iterations": 2,
        "beta": 0.05,
        "dynamic_sampling": 1,
    },
    # Lengths differ from the first round on, so that every round moves the weights.
    "rewards": {"length": {"options": {"buffer": 1.0}}},
    "checkpoint": {"every": 2, "keep": 2},
    "evaluation": {"every": 3, "cases": 4},
    "guard": {"enabled": False},
}
# Where the processes die, one after the other: in which function, at its how many-th call.
DEATHS = (
    ("grandrounds.algorithm.learner.Learner.step", 3),  # in the warm-up
    ("grandrounds.training.saving.write_state", 1),  # the cold start is half written
    (
        "grandrounds.evaluation.evaluate.summarise",
        1,
    ),  # held-out cases are sampled at the start, nothing is written
    ("grandrounds.policy.model.Policy.hidden", 450),  # sampling, or a later evaluation
    ("grandrounds.algorithm.learner.Learner.step", 1),  # between two passes of an update
    ("grandrounds.training.trace.write_atomically", 1),  # the round's trace is not written
    (
        "grandrounds.training.folder.RunFolder.append_evaluation",
        1,
    ),  # the best policy is kept, the evaluation not
    ("grandrounds.training.folder.RunFolder.append_metrics", 2),  # the trace is written, the metrics row not
    ("grandrounds.training.files.flush_tree", 1),  # the checkpoint is written, not yet visible
    ("grandrounds.training.checkpoint.Checkpoints.prune", 1),  # it just became visible
    ("grandrounds.training.checkpoint.remove_tree", 1),  # while older ones are removed
    ("grandrounds.training.saving.write_state", 1),  # the last one is half written
)


# What an optimizer keeps differs, when it is saved does not: one death behind a checkpoint is enough for another.
OPTIMIZERS = {
    "adamw": DEATHS,
    "adamw_8bit": (("grandrounds.training.folder.RunFolder.append_metrics", 5),),
}


def work(path: str, optimizer: str, begin: bool, death: tuple[str, int] | None = None) -> None:
    """Train or resume, in a process of its own, which dies where it is told to."""
    import torch

    from grandrounds.training.progress import SilentProgress
    from grandrounds.training.run import resume, train

    torch.set_num_threads(1)
    if death is not None:
        die_in(*death)
    progress = SilentProgress()
    recipe = with_overrides(
        recipe_from(RECIPE), [f"{section}.optimizer={optimizer}" for section in ("sft", "grpo")]
    )
    run = train(recipe, path, progress=progress) if begin else resume(path, progress=progress)
    assert run.finished


def die_in(function: str, call: int) -> None:
    """Kill this process, as `kill -9` does, on entering the function for the `call`-th time."""
    owner_name, _, name = function.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    original, calls = getattr(owner, name), itertools.count(1)

    def deadly(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, deadly)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """A server that has imported everything forks quickly; it has not computed anything yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "grandrounds.training.run",
            "grandrounds.training.trace",
            "pyarrow.parquet",
            "transformers.modeling_utils",
        ]
    )
    return context


def result(path: Path) -> dict[str, bytes]:
    """Every byte that a run leaves, but for times."""
    kept = (
        "checkpoints/*/*.safetensors",
        "checkpoints/*/state.json",
        "rollouts/*.parquet",
        "evaluations.jsonl",
    )
    files = sorted(file for pattern in kept for file in path.glob(pattern))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_and_resumed_run_equals_the_uninterrupted_one(
    optimizer: str, tmp_path: Path, processes: ForkServerContext
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_process(processes, str(whole), optimizer, True) == 0
    expected = result(whole)
    saved = {name.split("/")[1] for name in expected if name.startswith("checkpoints")}
    assert saved == {"000000", "000006", "000008", "best"}
    assert all(row["grad_norm"] > 0 for row in steadily(whole))  # else equal weights would show nothing

    for death in OPTIMIZERS[optimizer]:
        begin = not (killed / "recipe.yaml").exists()
        assert run_process(processes, str(killed), optimizer, begin, death) == -signal.SIGKILL, death
    assert run_process(processes, str(killed), optimizer, False) == 0
    found = result(killed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list(killed.rglob(".writing-*"))
    assert steadily(killed) == steadily(whole)


def run_process(processes: ForkServerContext, *arguments: Any) -> int | None:
    """Do `work` in a process of its own; its exit code."""
    process = processes.Process(target=work, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def steadily(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what a clock or the system says."""
    clocked = ("_time", "per_second", "memory_gib")
    rows = RunFolder.open(path).metrics()
    return [{key: value for key, value in row.items() if not key.endswith(clocked)} for row in rows]
