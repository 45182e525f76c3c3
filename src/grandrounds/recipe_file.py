"""Recipes as files: shipped ones or one's own YAML, with overrides; every mistake has its place and its mend.

Paths inside a recipe (`cases.source`, `policy.model`, `rewards.*.use`) are relative to the folder the
command runs in, not to the recipe's file, so that a shipped recipe works on the files at hand.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from grandrounds.errors import RecipeError
from grandrounds.recipe import Recipe, RewardRecipe

SHIPPED = Path(__file__).parent / "recipes"
Keys = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, reading 1e-5 as the number it is to everyone but YAML 1.1, and refusing a key
    twice.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{key.value}` occurs twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Place:
    """Where a recipe's keys stand: its name for messages, and key path -> line (from 1)."""

    name: str
    lines: Mapping[Keys, int]

    def of(self, keys: Keys) -> str:
        """ "recipe.yaml:12" for the key or the nearest one above it that has a line."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.name}:{self.lines[keys]}" if keys else self.name


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file, with overrides "key.path=value" (values are YAML) put on top.

    Raises RecipeError for a recipe that does not exist, is not YAML, or has a key that is unknown or of the
    wrong type, naming key, place and mend.
    """
    path = _find(str(name_or_path))
    values, place = _read(path)
    lines, origins = dict(place.lines), {}
    for override in overrides:
        keys, value = parse_override(override)
        _put(values, keys, value, override)
        origins[keys] = f"--set {override}"
    return _validated(values, Place(place.name, lines), origins)


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """A recipe from a plain dict, with the same messages as from a file."""
    return _validated(dict(values), Place("the recipe", {}), {})


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with overrides put on top, with the same messages as from a file."""
    values, origins = recipe.model_dump(mode="json"), {}
    for override in overrides:
        keys, value = parse_override(override)
        _put(values, keys, value, override)
        origins[keys] = f"--set {override}"
    return _validated(values, Place("the recipe", {}), origins)


def parse_override(text: str) -> tuple[Keys, Any]:
    """ "grpo.group_size=16" -> (("grpo", "group_size"), 16)."""
    key, equals, value = text.partition("=")
    keys = tuple(key.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError(
            "an override needs a key and a value",
            where=f"--set {text}",
            mend="Write --set grpo.group_size=16.",
        )
    try:
        return keys, yaml.load(value, _Loader) if value.strip() else ""
    except yaml.YAMLError as error:
        raise RecipeError(
            f"the value of `{key}` is no YAML", where=f"--set {text}", mend="Quote it: --set 'key=\"value\"'."
        ) from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every key, as YAML that `load_recipe` reads back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


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
            mend=f"`grandrounds resume {name}` goes on with a run; a recipe is a YAML file.",
        )
    if path.suffix in (".yaml", ".yml") or "/" in name:
        raise RecipeError("there is no such file", where=name, mend=_known("recipe", name, shipped))
    raise RecipeError(
        f"there is no recipe `{name}`", mend=_known("recipe", name, shipped) + " Or name a YAML file."
    )


def _read(path: Path) -> tuple[dict[str, Any], Place]:
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
            f"the recipe is no valid YAML: {error.problem or error.context}",
            where=f"{path}{line}",
            mend="Check indentation, colons and quotes there.",
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(
            f"the recipe cannot be read: {error}", where=str(path), mend="Check the file."
        ) from error
    if not isinstance(values, dict):
        raise RecipeError(
            "a recipe is a mapping of keys to values", where=str(path), mend="Begin with `name: …`."
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


def _put(values: dict[str, Any], keys: Keys, value: Any, override: str) -> None:
    if keys[0] == "rewards" and "rewards" not in values:
        # One component's key changes the default components instead of replacing them all.
        values["rewards"] = Recipe().model_dump(mode="json")["rewards"] if len(keys) > 1 else {}
    section = values
    for depth, key in enumerate(keys[:-1], 1):
        if section.get(str(key)) is None:
            section[str(key)] = {}
        section = section[str(key)]
        if not isinstance(section, dict):
            raise RecipeError(
                f"`{'.'.join(map(str, keys[:depth]))}` is a value, not a section",
                where=f"--set {override}",
                mend="See `grandrounds recipe --explain` for the keys.",
            )
    section[str(keys[-1])] = value


def _validated(values: dict[str, Any], place: Place, origins: Mapping[Keys, str]) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # Unknown keys first: one misspelt key often causes further complaints.
        details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        mistakes = {_recipe_keys(detail["loc"]) for detail in details}
        raise _explained(details[0], len(mistakes) - 1, place, origins) from None


# Pydantic's words where they speak of Python rather than of recipes.
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
    if detail["type"] == "extra_forbidden":
        known = [*_fields(keys[:-1])]
        return RecipeError(
            f"the recipe has no key `{name}`",
            where=origin or place.of(keys),
            mend=_known("key", str(keys[-1]), known, keys[:-1]) + more,
        )
    what = _PLAIN.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
    if not keys:
        return RecipeError(what, where=place.name, mend="Change one of them." + more)
    return RecipeError(
        f"`{name}` is {_shown(detail['input'])}: {what[0].lower()}{what[1:]}",
        where=origin or place.of(keys),
        mend=_expected(keys) + more,
    )


def _overlap(one: Keys, other: Keys) -> bool:
    """Whether one of two keys lies within the other, or they are the same."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _recipe_keys(location: Sequence[str | int]) -> Keys:
    """Pydantic's location without the union branches it adds ("literal['all-linear']", "list[str]")."""
    return tuple(part for part in location if isinstance(part, int) or not any(c in part for c in "[(-"))


def _known(what: str, given: str, known: Iterable[str], above: Keys = ()) -> str:
    """ "Did you mean `x`?", by likeness, or where the name is known in another section; else all that
    exist.
    """
    names = list(known)
    near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.6)
    prefix = "".join(f"{key}." for key in above)
    if near:
        return f"Did you mean `{prefix}{near[0]}`?"
    if what == "key":
        elsewhere = [row.key for row in explain_rows() if row.key.rpartition(".")[2] == given]
        if elsewhere:
            return f"Did you mean `{elsewhere[0]}`?"
    return f"Known: {', '.join(names)}."


def _fields(keys: Keys) -> dict[str, Any]:
    """The fields of the section at `keys`."""
    section: type[BaseModel] = Recipe
    for key in keys:
        if section is Recipe and key == "rewards":
            section = RewardRecipe
            continue
        if section is RewardRecipe:
            continue  # the component's own name
        section = section.model_fields[str(key)].annotation  # type: ignore[assignment]
    return dict(section.model_fields)


def _expected(keys: Keys) -> str:
    """What the key takes, from its own help line."""
    while keys:
        try:
            field = _fields(keys[:-1]).get(str(keys[-1]))
        except (KeyError, AttributeError):
            field = None
        if field is not None:
            name = ".".join(map(str, keys))
            meaning = f": {field.description}" if field.description else ""
            return f"`{name}` takes {type_name(field.annotation)}{meaning}"
        keys = keys[:-1]
    return "See `grandrounds recipe --explain`."


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, (dict, list)) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"


@dataclass(frozen=True)
class Explanation:
    """One recipe key: its path, type, default as YAML, and what it means."""

    key: str
    type: str
    default: str
    help: str


def explain_rows(section: type[BaseModel] = Recipe, above: str = "") -> list[Explanation]:
    """Every key of the recipe, in order; a reward component's keys stand under `rewards.NAME`."""
    rows: list[Explanation] = []
    for name, field in section.model_fields.items():
        key, kind = above + name, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += explain_rows(kind, f"{key}.")
        elif section is Recipe and name == "rewards":
            rows += explain_rows(RewardRecipe, "rewards.NAME.")
        else:
            default = "" if field.default is PydanticUndefined else _yaml(field.default)
            rows.append(Explanation(key, type_name(kind), default, field.description or ""))
    return rows


def explain_recipe() -> str:
    """Every key as text, one per paragraph: for `grandrounds recipe --explain` and the documentation."""
    return "\n".join(
        f"{row.key} ({row.type}; default {row.default or 'none'})\n    {row.help}" for row in explain_rows()
    )


def type_name(kind: Any) -> str:
    """A type in words: "a whole number", "one of auto, cpu"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments)) if len(arguments) > 1 else f"`{arguments[0]}`"
    if origin in (Union, UnionType):
        return " or ".join(type_name(part) for part in arguments)
    if origin is list:
        return "a list"
    if origin is dict:
        return "a mapping"
    if hasattr(kind, "__metadata__"):
        return type_name(arguments[0])
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return words.get(kind, "a section of keys")


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n").removesuffix("\n...")
