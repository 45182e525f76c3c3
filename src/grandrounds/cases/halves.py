"""Halves of surrogate pairs: JSON can hold them, but no tokenizer, file or terminal takes them for text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from grandrounds.cases.read import Row
from grandrounds.errors import CaseError
from grandrounds.types import Case

_HALF = re.compile("[\ud800-\udfff]")


def refuse_halves(case: Case, place: str) -> None:
    """CaseError where a text of the case holds half of a surrogate pair."""
    for field in fields(case):
        if half := half_in(getattr(case, field.name)):
            raise _error(f"the case's {field.name}", half, place)


def without_halves(row: Row) -> Row:
    """The row, with an error where a column of it holds half of a surrogate pair."""
    for name, value in row.values.items():
        if row.error is None and (half := half_in((name, value))):
            return replace(row, error=_error(f"the column {name!r}", half, row.place))
    return row


def _error(what: str, half: str, place: str) -> CaseError:
    return CaseError(
        f"{what} holds half of a surrogate pair (U+{ord(half):04X}), which is no text",
        where=place,
        hint="Write the whole character, or remove the half.",
    )


def half_in(value: Any) -> str:
    """The first half of a surrogate pair in a text, or in the texts of a mapping, list or dataclass; or ""."""
    if isinstance(value, str):
        found = None if value.isascii() else _HALF.search(value)
        return found.group() if found else ""
    if isinstance(value, Mapping):
        inner: Any = (*value, *value.values())
    elif isinstance(value, (list, tuple)):
        inner = value
    elif is_dataclass(value):
        inner = tuple(getattr(value, field.name) for field in fields(value))
    else:
        return ""
    return next(filter(None, map(half_in, inner)), "")
