"""Every example of docs/extending.md, run as its reader would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_docs import ROOT, blocks

from grandrounds import train
from grandrounds.algorithm.loss import LossInputs, LossSettings
from grandrounds.algorithm.losses import find_loss
from grandrounds.errors import RecipeError
from grandrounds.loading import load_object
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run

PAGE = ROOT / "docs/extending.md"
PYTHON = blocks(PAGE, "python")
ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(8)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files."""
    for block in PYTHON:
        if match := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / match[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changes() -> list[dict[str, Any]]:
    """What each diff of the page leaves in a recipe."""
    kept = [
        "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))
        for diff in blocks(PAGE, "diff")
    ]
    return [yaml.safe_load(text) for text in kept]


def small(**sections: Any) -> Recipe:
    return recipe_from(
        {
            "rounds": 2,
            "cases": {"clinic_train": 60, "clinic_test": 4},
            "policy": {
                "scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 800}
            },
            "guard": {"enabled": False},
            **sections,
            "grpo": {"group_size": 3, "cases_per_round": 2, "max_new_tokens": 12, **sections.get("grpo", {})},
        }
    )


def rows_of(run: Run) -> list[dict[str, Any]]:
    return RunFolder.open(run.folder).metrics()


def program(name: str) -> Any:
    """A function of one of the page's blocks that are no files."""
    for block in PYTHON:
        found: dict[str, Any] = {}
        if f"def {name}(" in block:
            exec(block, found)
            return found[name]
    raise KeyError(name)


@pytest.mark.parametrize("place", range(2))
def test_the_diffs_train(place: int, here: Path) -> None:
    run = train(small(**changes()[place]), here / "run", progress=SilentProgress())
    recipe = RunFolder.open(run.folder).recipe()
    assert recipe.grpo.loss == "my_losses.py:CISPO" or recipe.rewards["two"].weight == 0.2
    assert len(rows_of(run)) == 2


@pytest.mark.parametrize("name", ["sequence_losses.py:GSPO", "my_losses.py:CISPO"])
def test_losses_are_reinforce_where_nothing_is_clipped(name: str, here: Path) -> None:
    """On-policy each loss's gradient is -w A, whatever its ratio is made of; GSPO's averaged over a completion."""
    sizes, advantages = [2, 3], torch.tensor([1.0, 1.0, -2.0, -2.0, -2.0])
    logprobs = torch.tensor([-1.0, -2.0, -3.0, -1.0, -0.5], requires_grad=True)
    weights = torch.tensor([0.5, 0.5, 0.2, 0.2, 0.2])
    inputs = LossInputs(logprobs, logprobs.detach().clone(), advantages, weights, [0, 2, 5])
    loss, statistics = find_loss(name, here).objective(inputs, LossSettings())
    loss.backward()
    torch.testing.assert_close(logprobs.grad, -weights * advantages)
    assert statistics["ratio"].tolist() == [1.0] * sum(sizes)


def test_gspo_clips_whole_completions(here: Path) -> None:
    """One far ratio carries its completion over the clip: none of its tokens has a gradient."""
    logprobs = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    behaviour = torch.tensor([-3.0, -1.0, -1.0])
    inputs = LossInputs(logprobs, behaviour, torch.ones(3), torch.ones(3), [0, 2, 3])
    loss, _ = find_loss("sequence_losses.py:GSPO", here).objective(inputs, LossSettings())
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [0, 0, -1]


def test_rows_and_a_function_train(here: Path) -> None:
    run = program("train_on")(ROWS, here / "run")
    assert rows_of(run)[0]["rewards/shorter/mean"] > 0


def test_the_sampler_samples(here: Path) -> None:
    sampler, _ = load_object("generate_sampler.py:GenerateSampler", here, RecipeError)
    (row,) = rows_of(program("train_with")(sampler, here / "run"))
    assert 0 < row["sampling/ratio_error"] < 1e-3
    assert row["grad_norm"] > 0
