"""The commands `rewards test` and `rewards agreement`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grandrounds.cli.as_json import print_json
from grandrounds.errors import RecipeError, RewardError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe, with_overrides
from grandrounds.rewards.components import BuiltInComponent
from grandrounds.rewards.judging.judge import Judge

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
    from grandrounds.rewards.attacks import solution
    from grandrounds.rewards.dry_run import dry_run

    recipe = _recipe(target, source, overrides)
    book = load_cases(recipe.cases, seed=recipe.seed)
    rewards = build_rewards(recipe.rewards, knowledge=book.knowledge, base=Path.cwd())
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    order = take(len(book.train), 0, len(book.train), recipe.seed)
    known = (case for i in order if solution(case := book.train[i]) is not None)
    chosen = list(itertools.islice(known, limit))
    result = dry_run(rewards, chosen, grammar, recipe.grpo.max_new_tokens)
    if as_json:
        print_json(result.to_json())
    else:
        from rich.console import Console

        from grandrounds.report.dry_run_table import print_dry_run

        print_dry_run(Console(highlight=False), result)
    if not result.passed:
        sys.exit(1)


def show_agreement(name: str, labels: str, overrides: Sequence[str], as_json: bool) -> None:
    """Ask the recipe's judge about responses that people have labelled, and print how far it agrees."""
    from grandrounds.cases.load import load_cases
    from grandrounds.cases.read import read_rows
    from grandrounds.evaluation.agreement import agreement, read_labels

    recipe, rows = load_recipe(name, overrides), read_rows(labels)
    judge = _judge(recipe)
    cases = {}
    if any("case" in row.values for row in rows):
        book = load_cases(recipe.cases, seed=recipe.seed)
        cases = {case.id: case for case in book.every}
    found = agreement(judge, read_labels(rows, cases, judge.rubric_of))
    if as_json:
        print_json(found.to_json())
    else:
        from rich.console import Console

        from grandrounds.report.agreement_table import print_agreement

        print_agreement(Console(highlight=False), found)


def _judge(recipe: Recipe) -> Judge:
    """The one judge among the recipe's rewards."""
    from grandrounds.rewards import build_rewards

    named = {
        name: spec.model_copy(update={"gate": False, "weight": 1.0})
        for name, spec in recipe.rewards.items()
        if (spec.use or name) == "judge"
    }
    if len(named) != 1:
        raise RewardError(
            f"the recipe has {len(named)} rewards that are a judge" if named else "the recipe has no judge",
            where="rewards",
            hint="Name a recipe with one.",
        )
    ((name, part),) = build_rewards(named, base=Path.cwd()).parts.items()
    assert isinstance(part.component, BuiltInComponent), name
    assert isinstance(part.component.scorer, Judge), name
    return part.component.scorer


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
