"""The command `plan`."""

from __future__ import annotations

from collections.abc import Sequence

from grandrounds.cli.as_json import print_json
from grandrounds.recipe_file import load_recipe


def show_plan(
    recipe: str,
    overrides: Sequence[str],
    memory: str | None,
    prompt_tokens: int | None,
    probe: bool,
    as_json: bool,
) -> None:
    """Plan a run and print the memory and time that it needs."""
    from grandrounds.cli.train import quiet_libraries

    resolved = load_recipe(recipe, overrides)
    quiet_libraries()
    from grandrounds.planning.planner import plan

    made = plan(resolved, memory=memory, prompt_tokens=prompt_tokens, probe=probe).to_json()
    if as_json:
        print_json(made)
        return
    from rich.console import Console

    from grandrounds.report.plan_table import print_plan

    print_plan(Console(highlight=False), made)
