"""The command `recipe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from grandrounds.cli.as_json import print_json
from grandrounds.recipe_file import dump_recipe, load_recipe, shipped_recipes
from grandrounds.recipe_help import explain_recipe, explain_rows


def show_recipe(name: str | None, overrides: Sequence[str], explain: bool, as_json: bool) -> None:
    """Explain every key, print a recipe (a shipped one as it is in its file), or list the shipped ones."""
    if explain:
        print_json([asdict(row) for row in explain_rows()]) if as_json else print(explain_recipe())
    elif name is None:
        _list(as_json)
    elif as_json:
        print_json(load_recipe(name, overrides).model_dump(mode="json"))
    elif name in shipped_recipes() and not overrides:
        print(shipped_recipes()[name].read_text(encoding="utf-8"), end="")
    else:
        print(dump_recipe(load_recipe(name, overrides)), end="")


def _list(as_json: bool) -> None:
    """The shipped recipes, each with the first line of its file."""
    about = {name: _first_line(path) for name, path in shipped_recipes().items()}
    if as_json:
        print_json([{"name": name, "about": line} for name, line in about.items()])
        return
    width = max(map(len, about)) + 2
    for name, line in about.items():
        print(f"{name:<{width}}{line}")


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
