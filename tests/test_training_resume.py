"""A run killed at any moment and resumed equals the uninterrupted run, byte for byte."""

from __future__ import annotations

import multiprocessing
import random
import sys
from pathlib import Path

import pytest

from grandrounds.recipe_file import recipe_from

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")

RECIPE = {
    "name": "killed",
    "rounds": 6,
    "cases": {"source": "clinic", "clinic_train": 60, "clinic_test": 4},
    "policy": {"scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 400}},
    "sft": {"steps": 4, "batch_cases": 4},
    "grpo": {
        "group_size": 3,
        "cases_per_round": 3,
        "max_new_tokens": 400,
        "learning_rate": 1e-3,
        "iterations": 2,
        "beta": 0.05,
        "dynamic_sampling": 1,
    },
    # Lengths differ from the first round on, so that every round moves the weights.
    "rewards": {"length": {"options": {"buffer": 1.0}}},
    "checkpoint": {"every": 2, "keep": 2},
    "guard": {"enabled": False},
}
KILLS = 10


def work(path: str, begin: bool) -> None:
    """Train or resume, in a process of its own."""
    import torch

    from grandrounds.training.progress import SilentProgress
    from grandrounds.training.run import resume, train

    torch.set_num_threads(1)
    progress = SilentProgress()
    run = train(recipe_from(RECIPE), path, progress=progress) if begin else resume(path, progress=progress)
    assert run.finished


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """A server that has imported everything forks quickly; it has not computed anything yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["grandrounds.training.run", "transformers.models.llama"])
    return context


def result(path: Path) -> dict[str, bytes]:
    """Every byte that a run leaves, but for times."""
    kept = ("checkpoints/*/*.safetensors", "checkpoints/*/state.json", "rollouts/*.parquet")
    files = sorted(file for pattern in kept for file in path.glob(pattern))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_a_killed_and_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    import time

    started = time.perf_counter()
    whole = processes.Process(target=work, args=(str(tmp_path / "whole"), True))
    whole.start()
    whole.join()
    length = time.perf_counter() - started
    assert whole.exitcode == 0
    expected = result(tmp_path / "whole")
    assert {name.split("/")[1] for name in expected if "checkpoints" in name} == {
        "000000",
        "000004",
        "000006",
    }

    moments, killed = random.Random(0), tmp_path / "killed"
    for _ in range(KILLS):
        process = processes.Process(target=work, args=(str(killed), not (killed / "recipe.yaml").exists()))
        process.start()
        process.join(moments.uniform(0.1, 0.8) * length)
        process.kill()
        process.join()
        process.close()
    last = processes.Process(target=work, args=(str(killed), False))
    last.start()
    last.join()
    assert last.exitcode == 0
    found = result(killed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
