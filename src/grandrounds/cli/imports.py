"""The command `import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from grandrounds.cli.as_json import print_json
from grandrounds.cli.init import save_recipe
from grandrounds.errors import RecipeError, command
from grandrounds.trl.importer import import_trl
from grandrounds.trl.translation import table


def write_recipe_of(file: Path, out: Path | None, as_json: bool) -> None:
    """Make a recipe of a TRL YAML file, write it, and print what became of each key."""
    out = out or Path(f"{file.stem}-recipe.yaml")
    if out.exists():
        raise RecipeError("there is such a file already", where=str(out), hint="Name another by --out.")
    made = import_trl(file)
    save_recipe(out, made.text)
    if as_json:
        print_json({"recipe": str(out), "keys": [asdict(note) for note in made.notes]})
        return
    for line in table(made.notes):
        print(line)
    counts = {kind: sum(note.kind == kind for note in made.notes) for kind in ("changed", "unsupported")}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "everything taken over"
    print(f"Written: {out} ({said}). Look it over, then: {command('plan', out)}")
