"""The command `init`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grandrounds.errors import RecipeError


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
        console.print(Text.assemble(("Note: ", "bold"), note), soft_wrap=True)
    for concern in made.report.concerns:
        console.print(Text.assemble(("Check: ", "bold yellow"), concern), soft_wrap=True)
    columns = made.recipe.cases.columns.items()
    console.print(Text(f"{path} is written. Next:", style="bold"), soft_wrap=True)
    for step in (
        " ".join(
            [
                "grandrounds cases",
                source,
                *(f"--set cases.columns.{ours}={theirs}" for ours, theirs in columns),
            ]
        ),
        f"grandrounds rewards test {path}",
        f"grandrounds plan {path}",
        f"grandrounds train {path}",
    ):
        console.print(Text(f"  {step}"), soft_wrap=True)


def _write(path: Path, text: str, replace: bool) -> None:
    if path.exists() and not replace:
        raise RecipeError(
            "there is such a file already", where=str(path), hint="Name another by --out, or give --replace."
        )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"the recipe cannot be written: {error.strerror}", where=str(path), hint="Name another by --out."
        ) from None
