"""What README and docs/ show works: commands exist, recipes are valid, code runs, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from test_imports import LAYERS

from grandrounds.cli.app import app
from grandrounds.domain import every
from grandrounds.recipe import Recipe, RewardRecipe
from grandrounds.recipe_file import recipe_from, shipped_recipes, with_overrides
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import BUILT_IN, build_rewards
from grandrounds.rewards.validate import gold_sample
from grandrounds.types import Answer, Case

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/tutorials").glob("*.md")])
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# What extending.md shows is run by test_extending.
REWARD_PAGES = [page for page in PAGES if page.name != "extending.md"]
REWARD_OPTIONS = {"states_unit": {"unit": "mmol/l"}}


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks in this language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(page: Path) -> Iterator[list[str]]:
    """Arguments of every `grandrounds …` line in the page's shell blocks."""
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            if line.startswith("grandrounds "):
                words = shlex.split(line, comments=True)[1:]
                yield words[: words.index(">")] if ">" in words else words


def _commands() -> dict[str, Any]:
    """The command line's commands by name."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def functions(page: Path) -> Iterator[tuple[str, str]]:
    """Name and source of every reward function in the page."""
    for block in blocks(page, "python"):
        if "train(" in block:
            continue  # a program
        for name in re.findall(r"^(?:async )?def (\w+)", block, re.MULTILINE):
            yield name, block


@PAGE
def test_commands_are_understood(page: Path) -> None:
    for words in commands(page):
        command = _commands()[words[0]]
        arguments = command.make_context(words[0], words[1:]).params
        with_overrides(Recipe(), arguments.get("overrides") or [])


@PAGE
def test_recipes_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        recipe = recipe_from(yaml.safe_load(block))
        assert {
            spec.use or name for name, spec in recipe.rewards.items() if ":" not in (spec.use or name)
        } <= {*BUILT_IN, *every("rewards")}


@pytest.mark.parametrize(
    ("name", "source"),
    [pytest.param(name, source, id=name) for page in REWARD_PAGES for name, source in functions(page)],
)
def test_reward_functions_score(name: str, source: str, tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(source, encoding="utf-8")
    spec = RewardRecipe(use=f"shown.py:{name}", options=REWARD_OPTIONS.get(name, {}))
    case = Case(id="1", question="Potassium?", gold=Answer("text", "4.1 mmol/l, see clause 7"))
    scores = build_rewards({name: spec}, base=tmp_path).score([gold_sample(case, Grammar())] * 2)
    assert list(scores.rewards) == [1.0, 1.0]


@PAGE
def test_python_blocks_run_up_to_their_work(page: Path) -> None:
    for block in blocks(page, "python"):
        imports = [line for line in block.splitlines() if line.startswith(("import ", "from "))]
        compile(block, str(page), "exec")
        exec("\n".join(imports), {})


@PAGE
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not broken


def keys_of(values: Any) -> set[str]:
    """Dotted names of every key of a nested dict."""
    if not isinstance(values, dict):
        return set()
    return {*values, *(f"{key}.{below}" for key in values for below in keys_of(values[key]))}


@PAGE
def test_recipe_keys_exist(page: Path) -> None:
    known = keys_of(Recipe().model_dump())
    sections = "|".join(Recipe.model_fields)
    named = re.findall(rf"`((?:{sections})\.[a-z_.]+)[:=`]", page.read_text(encoding="utf-8"))
    assert {name for name in named if not name.startswith("rewards.")} <= known


def test_every_shipped_recipe_and_reward_is_described() -> None:
    recipes = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    rewards = (ROOT / "docs/rewards.md").read_text(encoding="utf-8")
    assert not [name for name in shipped_recipes() if f"| `{name}` |" not in recipes]
    assert not [name for name in BUILT_IN if f"| `{name}` |" not in rewards]
    assert not [name for name in every("rewards") if f"`{name}`" not in rewards]


def test_readme_shows_every_command() -> None:
    readme, known = (ROOT / "README.md").read_text(encoding="utf-8"), _commands()
    assert not [name for name in known if f"`grandrounds {name}" not in readme]


def test_what_the_map_names_is_there() -> None:
    page = ROOT / "docs/where-things-are.md"
    named = re.findall(r"\]\(([^)]+\.py)\) \| `(\w+)` \|", page.read_text(encoding="utf-8"))
    assert len(named) == 9
    for target, name in named:
        source = (page.parent / target).read_text(encoding="utf-8")
        assert re.search(rf"^(?:def |class )?{name}\b", source, re.MULTILINE), f"{name} is not in {target}"


def test_the_map_has_every_room() -> None:
    text = (ROOT / "docs/where-things-are.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE))))
    assert listed == {room for layer in LAYERS for room in layer} - {"__main__", "_version", "recipes"}
