"""The command `rewards test`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grandrounds.errors import RecipeError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe, with_overrides

YAML = (".yaml", ".yml")


def test_rewards(
    target: str, source: str | None, overrides: Sequence[str], limit: int, as_json: bool
) -> None:
    """Attack the rewards of a recipe, or one function, and print what each way to respond earns. Exit code 1 where
    something pays that must not."""
    from grandrounds.algorithm.cursor import take
    from grandrounds.cases.load import load_cases
    from grandrounds.response.grammar import Grammar
    from grandrounds.rewards import build_rewards
    from grandrounds.rewards.dry_run import dry_run

    recipe = _recipe(target, source, overrides)
    book = load_cases(recipe.cases, seed=recipe.seed)
    rewards = build_rewards(recipe.rewards, knowledge=book.knowledge, base=Path.cwd())
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    asked = [case for case in book.train if case.gold.kind != "none"]
    chosen = [asked[i] for i in take(len(asked), 0, min(limit, len(asked)), recipe.seed)] if asked else []
    result = dry_run(rewards, chosen, grammar, recipe.grpo.max_new_tokens)
    if as_json:
        print(json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    else:
        from rich.console import Console

        from grandrounds.report.dry_run_table import print_dry_run

        print_dry_run(Console(highlight=False), result)
    if not result.passed:
        sys.exit(1)


def _recipe(target: str, source: str | None, overrides: Sequence[str]) -> Recipe:
    """The recipe named, or the default one with this function as its only reward."""
    given = [] if source is None else [f"cases.source={json.dumps(source)}"]
    if ":" not in target or target.endswith(YAML):
        return load_recipe(target, [*given, *overrides])
    if source is None:
        raise RecipeError(
            "a function by itself has no cases",
            where=target,
            hint="Name some: --cases FILE, or --cases clinic.",
        )
    name = target.rpartition(":")[2]
    alone = Recipe().model_dump() | {"rewards": {name: {"use": target}}}
    return with_overrides(Recipe.model_validate(alone), [*given, *overrides])
