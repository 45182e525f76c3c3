"""The command `recipe`."""

from __future__ import annotations

from collections.abc import Sequence

from grandrounds.recipe_file import dump_recipe, load_recipe, shipped_recipes
from grandrounds.recipe_help import explain_recipe


def show_recipe(name: str | None, overrides: Sequence[str], explain: bool) -> None:
    """Explain every key, print a recipe (a shipped one as it is in its file), or list the shipped ones."""
    if explain:
        print(explain_recipe())
    elif name in shipped_recipes() and not overrides:
        print(shipped_recipes()[name].read_text(encoding="utf-8"), end="")
    elif name is not None:
        print(dump_recipe(load_recipe(name, overrides)), end="")
    else:
        recipes = shipped_recipes()
        width = max(map(len, recipes)) + 2
        for shipped, path in recipes.items():
            first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
            print(f"{shipped:<{width}}{first}")
