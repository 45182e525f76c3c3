"""Every example of docs/extending.md, run as its reader would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
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


LAW = """
import json, sys
from grandrounds import train
from grandrounds.domain import domains
from grandrounds.recipe_file import recipe_from
from grandrounds.response import Grammar
from grandrounds.rewards import gold_sample, judge
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress

seen = []
recipe = recipe_from({
    "rounds": 1,
    "cases": {"source": "claims.jsonl"},
    "policy": {"scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 400}},
    "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 8},
    "rewards": {"accuracy": {}, "cites": {"weight": 0.2}},
})
run = train(recipe, "run", callbacks=[seen.append], progress=SilentProgress())
case = seen[0].groups[0].samples[0].case
print(json.dumps({
    "domains": [domain.name for domain in domains()],
    "kind": case.gold.kind,
    "right": [judge(text, case).correct for text in ("Sec. 433 BGB", "§ 434 BGB", "§ 433 II BGB")],
    "scores": sorted(seen[0].groups[0].scores),
}))
"""


def test_a_domain_of_another_package_is_found_by_its_entry_point(here: Path) -> None:
    rows = [
        {
            "docket": str(n),
            "facts_of_the_case": f"V sold K {n} books.",
            "claim": "May V ask the price?",
            "norm": "§ 433 II BGB",
        }
        for n in range(8)
    ]
    (here / "claims.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    installed = here / "our_contracts-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: our-contracts\nVersion: 1.0\n")
    toml = tomllib.loads(blocks(PAGE, "toml")[0])
    points = toml["project"]["entry-points"]
    (installed / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in points.items()
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", LAW],
        capture_output=True,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "domains": ["clinic", "code", "finance", "law", "mathematics", "medicine", "contracts"],
        "kind": "norm",
        "right": [True, False, True],
        "scores": ["accuracy", "cites"],
    }


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('odd')", "the domain `contracts` cannot be loaded: ValueError: odd"),
        ("DOMAIN = 3", "the domain `contracts` is no Domain but int"),
        (
            "from grandrounds.domain import Domain, Source\n"
            "DOMAIN = Domain('contracts', sources={'clinic': Source(lambda *_: None)})",
            "two domains define `clinic`",
        ),
    ],
)
def test_a_domain_that_cannot_be_used_is_named(code: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "our_contracts.py").write_text(code)
    installed = tmp_path / "our_contracts-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: our-contracts\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[grandrounds.domains]\ncontracts = our_contracts:DOMAIN\n")
    done = subprocess.run(
        [sys.executable, "-m", "grandrounds", "recipe", "--explain"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_rows_and_a_function_train(here: Path) -> None:
    run = program("train_on")(ROWS, here / "run")
    assert rows_of(run)[0]["rewards/shorter/mean"] > 0


def test_the_sampler_samples(here: Path) -> None:
    sampler, _ = load_object("generate_sampler.py:GenerateSampler", here, RecipeError)
    (row,) = rows_of(program("train_with")(sampler, here / "run"))
    assert 0 < row["sampling/ratio_error"] < 1e-3
    assert row["grad_norm"] > 0
