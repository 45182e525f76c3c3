"""Recipes as files: shipped ones or users' own YAML, with overrides. Every error names its place and a fix.

Paths inside a recipe (`cases.source`, `policy.model`, `rewards.*.use`) are relative to the folder that the command runs
in, not to the recipe's file. So a shipped recipe works on the user's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from grandrounds.domain import domains
from grandrounds.errors import RecipeError, command
from grandrounds.recipe import Recipe
from grandrounds.recipe_help import expected, fields_of, known

SHIPPED = Path(__file__).parent / "recipes"
# YAML 1.1 reads 1e-5 as text, and only 1.0e-5 as a number.
EXPONENT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
Keys = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader. It refuses a key that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{key.value}` occurs twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper. It quotes the rare line ends (NEL, LS, PS) that it would otherwise read back as spaces."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(end in text for end in "\x85\u2028\u2029\ufeff") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)
for _reader_or_writer in (_Loader, _Dumper):
    _reader_or_writer.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))


@dataclass(frozen=True)
class Place:
    """The places of a recipe's keys. name: for messages. lines: key path -> line (from 1)."""

    name: str
    lines: Mapping[Keys, int]

    def of(self, keys: Keys) -> str:
        """ "recipe.yaml:12" for the key, or for the nearest key above it that has a line."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.name}:{self.lines[keys]}" if keys else self.name


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes in the package and in its domains."""
    folders = [SHIPPED, *(domain.recipes for domain in domains() if domain.recipes)]
    paths = [path for folder in folders for path in folder.glob("*.yaml")]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file, with overrides "key.path=value" (values are YAML) applied to it.

    Raises RecipeError, with key, place and hint, for a recipe that does not exist, is not YAML, or has a key that is
    unknown or of the wrong type.
    """
    values, place = read_yaml(_find(str(name_or_path)))
    return _validated(values, place, _override(values, overrides))


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with overrides "key.path=value" applied to it. RecipeError as from `load_recipe`."""
    values = recipe.model_dump(mode="json")
    return _validated(values, Place("the recipe", {}), _override(values, overrides))


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """A recipe from a plain dict. The errors are the same as for a file."""
    return _validated(dict(values), Place("the recipe", {}), {})


def parse_override(text: str) -> tuple[Keys, Any]:
    """ "grpo.group_size=16" -> (("grpo", "group_size"), 16)."""
    key, equals, value = text.partition("=")
    keys = tuple(key.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError(
            "an override needs a key and a value",
            where=f"--set {text}",
            hint="Write --set grpo.group_size=16.",
        )
    try:
        return keys, yaml.load(value, _Loader) if value.strip() else ""
    except yaml.YAMLError as error:
        raise RecipeError(
            f"the value of `{key}` is no YAML", where=f"--set {text}", hint="Quote it: --set 'key=\"value\"'."
        ) from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every key, as YAML that `load_recipe` reads back to an equal recipe."""
    return dump_values(recipe.model_dump(mode="json"))


def dump_values(values: Mapping[str, Any]) -> str:
    """Some keys of a recipe as YAML that `load_recipe` reads back."""
    return str(yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def _find(name: str) -> Path:
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise RecipeError(
            "this is a folder, not a recipe",
            where=name,
            hint=f"`{command('resume', name)}` resumes a run; a recipe is a YAML file.",
        )
    if path.suffix in (".yaml", ".yml") or "/" in name:
        raise RecipeError("there is no such file", where=name, hint=known("recipe", name, shipped))
    raise RecipeError(
        f"there is no recipe `{name}`", hint=known("recipe", name, shipped) + " Or name a YAML file."
    )


def read_yaml(path: Path) -> tuple[dict[str, Any], Place]:
    """The keys of a YAML file, and their lines. RecipeError where it is no YAML, or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            values = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(
            f"the file is no valid YAML: {error.problem or error.context}",
            where=f"{path}{line}",
            hint="Check indentation, colons and quotes there.",
        ) from error
    except FileNotFoundError:
        raise RecipeError("there is no such file", where=str(path), hint="Check the path.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(
            f"the file cannot be read: {why}", where=str(path), hint="Check the file."
        ) from error
    if not isinstance(values, dict):
        raise RecipeError(
            "a recipe is a mapping of keys to values", where=str(path), hint="Begin with `name: …`."
        )
    return values, Place(str(path), dict(_lines(node, ())))


def _lines(node: yaml.Node | None, keys: Keys) -> Iterable[tuple[Keys, int]]:
    """The line of each key, from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*keys, key.value), key.start_mark.line + 1
            yield from _lines(value, (*keys, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield (*keys, place), value.start_mark.line + 1


def _override(values: dict[str, Any], overrides: Sequence[str]) -> dict[Keys, str]:
    """Apply overrides to a recipe's values, in place. Returns key -> the override it came from."""
    origins: dict[Keys, str] = {}
    for override in overrides:
        keys, value = parse_override(override)
        _put(values, keys, value, override)
        origins[keys] = f"--set {override}"
    return origins


def _put(values: dict[str, Any], keys: Keys, value: Any, override: str) -> None:
    if keys[0] == "rewards" and len(keys) > 1 and values.get("rewards") is None:
        # A key of one component changes the default components instead of replacing them all.
        values["rewards"] = (
            Recipe.model_validate({}).model_dump(mode="json")["rewards"] if len(keys) > 1 else {}
        )
    section = values
    for depth, key in enumerate(keys[:-1], 1):
        if section.get(str(key)) is None:
            section[str(key)] = {}
        section = section[str(key)]
        if not isinstance(section, dict):
            raise RecipeError(
                f"`{'.'.join(map(str, keys[:depth]))}` is a value, not a section",
                where=f"--set {override}",
                hint="See `grandrounds recipe --explain` for the keys.",
            )
    section[str(keys[-1])] = value


def _validated(values: dict[str, Any], place: Place, origins: Mapping[Keys, str]) -> Recipe:
    try:
        return _with_system_text(Recipe.model_validate(values))
    except ValidationError as error:
        # Unknown keys first: one misspelt key often causes further errors.
        details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        mistakes = {_recipe_keys(detail["loc"]) for detail in details}
        raise _explained(details[0], len(mistakes) - 1, place, origins) from None


def _with_system_text(recipe: Recipe) -> Recipe:
    """The recipe with the text of `prompt.system_file`, so that it holds all that is asked."""
    name = recipe.prompt.system_file
    if name is None:
        return recipe
    if recipe.prompt.system is not None:
        raise RecipeError(
            "there are both a system message and a file with one",
            where="prompt.system_file",
            hint="Leave one out.",
        )
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"the system message cannot be read: {error}",
            where="prompt.system_file",
            hint=f"Paths are relative to {Path.cwd()}.",
        ) from error
    prompt = recipe.prompt.model_copy(update={"system": text, "system_file": None})
    return recipe.model_copy(update={"prompt": prompt})


# Of a text that is a mapping, a number or a date in YAML.
QUOTED = " Text that YAML reads as something else (`: ` in it, say) needs quotes: '{name}=\"a: b\"'."
# Replacements for pydantic's messages that speak of Python rather than of recipes.
_PLAIN = {
    "model_type": "it should be a section of keys",
    "dict_type": "it should be a section of keys",
    "int_parsing": "it should be a whole number",
    "int_type": "it should be a whole number",
    "int_from_float": "it should be a whole number",
    "float_parsing": "it should be a number",
    "float_type": "it should be a number",
    "string_type": "it should be text",
}


def _explained(detail: ErrorDetails, others: int, place: Place, origins: Mapping[Keys, str]) -> RecipeError:
    keys = _recipe_keys(detail["loc"])
    name = ".".join(map(str, keys))
    origin = next((text for key, text in origins.items() if _overlap(key, keys)), None)
    more = f" ({others} further mistake{'s' if others > 1 else ''}.)" if others else ""
    if detail["type"] == "without_switch":
        key, switch = detail["ctx"]["key"], detail["ctx"]["switch"]
        return RecipeError(
            detail["msg"],
            where=origins.get(tuple(key.split("."))) or place.of(tuple(key.split("."))),
            hint=f"Set {switch} too, or leave {key} out." + more,
        )
    if detail["type"] == "extra_forbidden":
        return RecipeError(
            f"the recipe has no key `{name}`",
            where=origin or place.of(keys),
            hint=known("key", str(keys[-1]), fields_of(keys[:-1]), keys[:-1]) + more,
        )
    what = _PLAIN.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
    if not keys:
        return RecipeError(what, where=place.name, hint="Change one of them." + more)
    return RecipeError(
        f"`{name}` is {_shown(detail['input'])}: {what[0].lower()}{what[1:]}",
        where=origin or place.of(keys),
        hint=expected(keys) + (QUOTED.format(name=name) if detail["type"] == "string_type" else "") + more,
    )


def _overlap(one: Keys, other: Keys) -> bool:
    """Whether two keys are the same, or one lies within the other."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _recipe_keys(location: Sequence[str | int]) -> Keys:
    """Pydantic's location without the union branches that it adds ("literal['all-linear']", "list[str]")."""
    return tuple(part for part in location if isinstance(part, int) or not any(c in part for c in "[(-"))


def _shown(value: Any) -> str:
    text = "a section" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
