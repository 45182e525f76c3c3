"""`policy.precision: auto`: what is chosen, why, and that a run keeps to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_model_folder

from grandrounds.policy import precision
from grandrounds.policy.load import load_policy
from grandrounds.policy.precision import LARGE, Mix, Width, choose_precision, mix_of
from grandrounds.recipe import PolicyRecipe, Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import resume, train
from grandrounds.training.target import open_target

CPU = torch.device("cpu")
HALF_B = Width(hidden=896, feedforward=4864, layers=24, vocabulary=151_936)
Seconds = Callable[[torch.dtype, Any, int], float]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Measured once in a process: not in another test."""
    precision.bfloat16_share.cache_clear()
    yield
    precision.bfloat16_share.cache_clear()


def machine(*, reading: float, computing: float) -> Seconds:
    """A processor that reads float32 weights at one a tick and multiplies at one a tick and row.

    Given are the times of bfloat16 beside it; a product takes the longer of reading and computing.
    """

    def seconds(dtype: torch.dtype, products: Any, rows: int) -> float:
        read, compute = (reading, computing) if dtype == torch.bfloat16 else (1.0, 1.0)
        return max(100 * read, rows * compute)

    return seconds


def choose(
    monkeypatch: pytest.MonkeyPatch, there: Seconds, width: Width, mix: Mix
) -> tuple[torch.dtype, str]:
    monkeypatch.setattr(precision, "seconds", there)
    monkeypatch.setattr(precision, "width_of", lambda config: width)
    return choose_precision(PolicyRecipe(model="x"), CPU, lambda: None, mix)


def test_the_faster_type_is_taken_and_the_reason_says_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = machine(reading=0.5, computing=0.25)
    dtype, reason = choose(monkeypatch, quick, HALF_B, Mix(rows=200, passes=2))
    assert dtype == torch.bfloat16
    assert reason == "measured: 0.25 of float32's time here"


def test_decoding_and_update_are_weighed_as_a_round_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the time to read, more to multiply: worth it where few completions decode together."""
    there = machine(reading=0.5, computing=1.2)
    few, _ = choose(monkeypatch, there, HALF_B, Mix(rows=4, passes=2))
    many, reason = choose(monkeypatch, there, HALF_B, Mix(rows=200, passes=2))
    assert few == torch.bfloat16  # (50 / 4 + 2 * 1.2) / (100 / 4 + 2)
    assert many == torch.float32
    assert reason == "measured: bfloat16 would take 1.20 of its time here"


def test_bfloat16_must_be_worth_its_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, machine(reading=0.95, computing=0.95), HALF_B, Mix())[0] == torch.float32


def test_emulated_bfloat16_is_given_up_after_one_small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def seconds(dtype: torch.dtype, products: Any, rows: int) -> float:
        asked.append(products)
        return 50.0 if dtype == torch.bfloat16 else 1.0

    assert choose(monkeypatch, seconds, HALF_B, Mix())[0] == torch.float32
    assert len(asked) == 2


def test_small_models_stay_exact_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Width(256, 768, 6, 4096)
    assert small.weights < LARGE < HALF_B.weights
    assert HALF_B.weights == pytest.approx(494e6, rel=0.1)  # it has less: its keys and values are narrow
    dtype, _ = choose(monkeypatch, pytest.fail, small, Mix())  # type: ignore[arg-type]
    assert dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"precision": "float64"}, torch.float64),
        ({"precision": "float32", "quantize": "4bit"}, torch.float32),
        ({"quantize": "4bit"}, torch.bfloat16),
    ],
)
def test_nothing_is_measured_where_the_recipe_decides(options: dict[str, Any], expected: torch.dtype) -> None:
    chosen, _ = choose_precision(PolicyRecipe(model="x", **options), CPU, pytest.fail)
    assert chosen == expected


def test_the_mix_is_the_recipes() -> None:
    lora = recipe_from(
        {"policy": {"model": "x"}, "grpo": {"cases_per_round": 4, "group_size": 3, "iterations": 2}}
    )
    assert mix_of(lora) == Mix(rows=12, passes=4)
    full = recipe_from({"policy": {"model": "x", "adapter": "full"}})
    assert mix_of(full).passes == 3


def _recipe(place: Path) -> Recipe:
    with (place / "cases.jsonl").open("w") as file:
        for number in range(4):
            file.write(json.dumps({"id": str(number), "question": f"{number} and 1?", "answer": "2"}) + "\n")
    return recipe_from(
        {
            "rounds": 1,
            "cases": {"source": str(place / "cases.jsonl"), "test_fraction": 0},
            "prompt": {"system": ""},
            "policy": {"model": str(tiny_model_folder(place / "model", "qwen2")), "device": "cpu"},
            "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 4},
            "guard": {"enabled": False},
        }
    )


def test_a_run_keeps_to_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed or evaluated, it computes in the type of its first round, whatever would be measured now."""
    monkeypatch.setattr(precision, "LARGE", 0)
    monkeypatch.setattr(precision, "seconds", machine(reading=0.5, computing=0.5))
    recipe = _recipe(tmp_path)
    assert load_policy(recipe.policy, seed=0).precision == "bfloat16"
    folder = train(recipe, tmp_path / "run", progress=SilentProgress()).folder
    assert RunFolder.open(folder).recipe().policy.precision == "bfloat16"
    monkeypatch.setattr(precision, "seconds", pytest.fail)
    precision.bfloat16_share.cache_clear()
    assert open_target(str(folder)).load().precision == "bfloat16"
    assert resume(folder, progress=SilentProgress()).finished
