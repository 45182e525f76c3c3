"""The shipped recipes for one GPU fit where they say they do."""

from __future__ import annotations

import pytest
from planned import MODELS, PROMPT_TOKENS, RECIPES, plan_of

from grandrounds import load_recipe
from grandrounds.recipe_file import shipped_recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_for_16_gb_is_planned_to_fit(name: str) -> None:
    made = plan_of(name, "16GB", PROMPT_TOKENS)
    assert made.fits
    assert made.precision == "bfloat16"
    assert bool(made.need["unpacked"]) == (load_recipe(name).policy.quantize == "4bit")


def test_every_recipe_that_speaks_of_16_gb_is_planned() -> None:
    speaking = {name for name, path in shipped_recipes().items() if "16 GB" in path.read_text()}
    assert speaking == set(RECIPES)
    assert {load_recipe(name).policy.model for name in RECIPES} == set(MODELS)
