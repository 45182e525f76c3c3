"""The core needs no domain: its tests pass with `domains/` taken away, and it trains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_imports import SOURCE

TESTS = Path(__file__).parent
FILES = (
    "test_response_grammar.py",
    "test_response_outline.py",
    "test_rewards_set.py",
    "test_rewards_user.py",
    "test_grpo_loss.py",
    "test_evaluation_evaluate.py",
    "test_training_trace.py",
)
TRAIN = """
from grandrounds import train
from grandrounds.domain import domains
from grandrounds.recipe_file import recipe_from
from grandrounds.training.progress import SilentProgress

assert domains() == ()
recipe = recipe_from({
    "rounds": 1,
    "policy": {"scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 400}},
    "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 8},
})
rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(8)]
assert train(recipe, "run", cases=rows, progress=SilentProgress()).finished
"""


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package without its domains."""
    folder = tmp_path_factory.mktemp("core")
    shutil.copytree(
        SOURCE / "grandrounds",
        folder / "grandrounds",
        ignore=shutil.ignore_patterns("domains", "__pycache__"),
    )
    return folder


def run(core: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(core), "PYTEST_ADDOPTS": "-p no:cacheprovider"},
    )


def test_the_cores_tests_pass_without_domains(core: Path) -> None:
    done = run(core, "-m", "pytest", "-q", "-x", *FILES, cwd=TESTS)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_core_trains_without_domains(core: Path, tmp_path: Path) -> None:
    done = run(core, "-c", TRAIN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
