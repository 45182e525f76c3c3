"""What each recipe key takes and means, for `grandrounds recipe --explain` and for the hints of errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from grandrounds.recipe import Recipe, RewardRecipe


def known(what: str, given: str, there: Iterable[str], above: Sequence[str | int] = ()) -> str:
    """ "Did you mean `x`?" for a similar name, or for the same name in another section. Otherwise lists all names."""
    names = list(there)
    near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.6)
    prefix = "".join(f"{key}." for key in above)
    if near:
        return f"Did you mean `{prefix}{near[0]}`?"
    if what == "key":
        elsewhere = [row.key for row in explain_rows() if row.key.rpartition(".")[2] == given]
        if elsewhere:
            return f"Did you mean `{elsewhere[0]}`?"
    return f"Known: {', '.join(names)}."


def fields_of(keys: Sequence[str | int]) -> dict[str, Any]:
    """The fields of the section at `keys`."""
    section: type[BaseModel] = Recipe
    for key in keys:
        if section is Recipe and key == "rewards":
            section = RewardRecipe
            continue
        if section is RewardRecipe:
            continue  # the component's name
        section = section.model_fields[str(key)].annotation  # type: ignore[assignment]
    return dict(section.model_fields)


def expected(keys: Sequence[str | int]) -> str:
    """What the key takes and means, from its help line."""
    while keys:
        try:
            field = fields_of(keys[:-1]).get(str(keys[-1]))
        except (KeyError, AttributeError):
            field = None
        if field is not None:
            name = ".".join(map(str, keys))
            meaning = f": {field.description}" if field.description else ""
            return f"`{name}` takes {type_name(field.annotation)}{meaning}"
        keys = keys[:-1]
    return "See `grandrounds recipe --explain`."


@dataclass(frozen=True)
class Explanation:
    """One recipe key: its path, type, default as YAML, and what it means."""

    key: str
    type: str
    default: str
    help: str


def explain_rows(section: type[BaseModel] = Recipe, above: str = "") -> list[Explanation]:
    """Every key of the recipe, in order. The keys of a reward component have the prefix `rewards.NAME`."""
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
