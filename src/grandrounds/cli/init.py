"""The command `init`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grandrounds.errors import RecipeError, command

# Of bad rows so many are named; the run's folder names all of them.
MOST_LEFT_OUT = 5


def write_recipe(
    source: str, model: str, domain: str | None, overrides: Sequence[str], out: Path | None, replace: bool
) -> None:
    """Write a commented recipe for these cases and this model, and show prompts as the model will see them."""
    from grandrounds.cli.train import quiet_libraries

    quiet_libraries()
    from rich.console import Console
    from rich.text import Text

    from grandrounds.new_recipe import new_recipe
    from grandrounds.report.cases_table import print_rendered
    from grandrounds.report.prose import print_prose
    from grandrounds.sampling.rendered import rendered

    made = new_recipe(source, model, domain=domain, overrides=overrides)
    path = out or Path(f"{made.recipe.name}.yaml")
    _write(path, made.text, replace)
    console = Console(highlight=False)
    for case in made.shown:
        shown = rendered(made.tokenizer, case, made.recipe.prompt)
        print_rendered(console, f"Case {case.id}, exactly as the model will see it,", shown)
        console.print(Text(f"Gold answer: {case.gold.text or 'none'}"), soft_wrap=True)
    console.print()
    for note in made.notes:
        print_prose(console, note, label="Note: ")
    for concern in made.report.concerns:
        print_prose(console, concern, label="Check: ", style="bold yellow")
    for line in made.report.left_out[:MOST_LEFT_OUT]:
        print_prose(console, line, label="Left out: ", style="bold yellow")
    if len(made.report.left_out) > MOST_LEFT_OUT:
        console.print(f"Left out: {len(made.report.left_out) - MOST_LEFT_OUT:,} more.")
    console.print(Text(f"{path} is written. Next:", style="bold"), soft_wrap=True)
    for step in (
        made.look,
        command("rewards", "test", path),
        command("plan", path),
        command("train", path),
    ):
        console.print(Text(f"  {step}"), soft_wrap=True)


def _write(path: Path, text: str, replace: bool) -> None:
    if path.exists() and not replace:
        raise RecipeError(
            "there is such a file already", where=str(path), hint="Name another by --out, or give --replace."
        )
    save_recipe(path, text)


def save_recipe(path: Path, text: str) -> None:
    """Write a recipe's text. RecipeError where that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"the recipe cannot be written: {error.strerror}", where=str(path), hint="Name another by --out."
        ) from None
