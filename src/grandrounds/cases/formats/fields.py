"""Reads the columns of a row. Errors for missing, empty or malformed columns name the row's place."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from grandrounds.errors import CaseError
from grandrounds.types import Answer

# Columns that hold images; models here read text alone.
IMAGES = ("image", "images", "img", "image_path", "image_url")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# `A`, `option_a`, `optionA`, `Choice 1`; a single letter only as a capital, since `a` may be anything.
_OPTION = re.compile(r"^(?:(?i:option|choice|opt)(?:[ _-]([A-Za-z])|([A-Z])|[ _-]?(\d{1,2}))|([A-Z]))$")
_LETTERED = re.compile(r"^\(?([A-Za-z])[.):]\s+(.+)$", re.DOTALL)


MISSING = object()


def nested(values: Mapping[str, Any], path: str) -> Any:
    """A column by its name, or by a dotted path into mappings (or JSON text of one); MISSING where it is not there."""
    if path in values:
        return values[path]
    name, dot, rest = path.partition(".")
    inner = values.get(name)
    if isinstance(inner, str) and inner.lstrip().startswith("{"):
        try:
            inner = json.loads(inner)
        except ValueError:
            return MISSING
    return nested(inner, rest) if dot and isinstance(inner, Mapping) else MISSING


class Fields:
    """One row. Columns are read by name; those that are never read are its `rest`.

    place: where the row is. position: its number in the source, from 0.
    """

    def __init__(self, values: Mapping[str, Any], place: str, position: int) -> None:
        self.values, self.place, self.position = values, place, position
        self._taken: set[str] = set()

    def get(self, name: str) -> Any:
        """The column's value, or None where it is absent, null, NaN or blank."""
        self._taken.add(name)
        value = self.values.get(name)
        if isinstance(value, float) and math.isnan(value):
            return None
        if isinstance(value, str):
            return value.strip() or None
        return value

    def text(self, name: str) -> str:
        """A column that must exist and must not be blank."""
        if name not in self.values:
            self.missing(name)
        value = self.get(name)
        if value is None:
            self.fail(f"the column `{name}` is empty", "Fill it in, or remove the row.")
        return plain_text(value)

    def maybe_text(self, name: str) -> str | None:
        """A column that may be missing."""
        value = self.get(name)
        return None if value is None else plain_text(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Several texts: a list, a JSON list, or one text that is split at semicolons."""
        value = self.structure(name)
        if value is None:
            return ()
        items = value if isinstance(value, (list, tuple)) else str(value).split(";")
        return tuple(text for item in items if item is not None and (text := plain_text(item)))

    def mapping(self, name: str) -> dict[str, Any]:
        """A mapping, or a mapping written as JSON."""
        value = self.structure(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.fail(f"`{name}` should be a mapping, not {type(value).__name__}", 'Write {"name": "value"}.')
        return {str(key): item for key, item in value.items() if item is not None}

    def number(self, name: str) -> float | None:
        """A number, or None where it is missing."""
        value = self.get(name)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"`{name}` should be a number, not {value!r}", "Write it as 0.01.")
        return number

    def options(self, name: str) -> dict[str, str]:
        """Letter -> text, from a mapping or list, or from either written as JSON. Blank options are left out."""
        value = self.structure(name)
        if value is None:
            return {}
        if isinstance(value, (list, tuple)):
            if len(value) > len(LETTERS):
                self.fail(f"there are {len(value)} options", f"Give at most {len(LETTERS)}.")
            if all(isinstance(item, Mapping) and {"key", "value"} <= item.keys() for item in value):
                value = {item["key"]: item["value"] for item in value}
            else:
                value = dict(zip(LETTERS, value, strict=False))
        if not isinstance(value, Mapping):
            self.fail(f"`{name}` should be a list or a mapping of letters", 'Write {"A": "…", "B": "…"}.')
        texts = {str(key).strip(): plain_text(text) for key, text in value.items() if text is not None}
        return {key.upper() if len(key) == 1 else key: text for key, text in texts.items() if text}

    def options_in_columns(self) -> dict[str, str]:
        """Letter -> text, from a column each: `A`, `B`, … or `option_a`, `Choice 1`, … Blank ones are left out."""
        named = {letter: name for name in self.values if (letter := option_letter(name)) is not None}
        if not {"A", "B"} <= named.keys():
            return {}
        texts = {letter: self.maybe_text(named[letter]) for letter in sorted(named)}
        return {letter: text for letter, text in texts.items() if text}

    def structure(self, name: str) -> Any:
        """The value. Text that looks like a JSON list or mapping, as CSV files may have, is parsed."""
        value = self.get(name)
        if isinstance(value, str) and value[0] in "[{":
            try:
                return json.loads(value)
            except ValueError:
                self.fail(f"`{name}` looks like JSON, but is not valid", "Correct it.")
        return value

    def rest(self) -> dict[str, Any]:
        """The columns that were not read."""
        return {name: value for name, value in self.values.items() if name not in self._taken}

    def missing(self, name: str) -> NoReturn:
        """Raise CaseError for a missing column."""
        raise missing_column(name, self.values, self.place)

    def fail(self, what: str, hint: str) -> NoReturn:
        """Raise CaseError for this row."""
        raise CaseError(what, where=self.place, hint=hint)


def option_letter(column: str) -> str | None:
    """The letter of the option that a column holds by its name; None for other columns."""
    match = _OPTION.match(column)
    if match is None:
        return None
    mark = next(filter(None, match.groups())).upper()
    if not mark.isdigit():
        return mark
    return LETTERS[int(mark) - 1] if 1 <= int(mark) <= len(LETTERS) else None


def refuse_images(fields: Fields) -> None:
    """CaseError for a case with an image: the model would be asked about what it never sees."""
    for name in IMAGES:
        if fields.get(name) not in (None, [], {}):
            fields.fail(
                f"the case has an image, in `{name}`, which the model will not see",
                "Remove the column if the question can be answered without it.",
            )


def plain_text(value: Any) -> str:
    """A value as text: true, not True; 5, not 5.0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def missing_column(name: str, columns: Iterable[str], place: str) -> CaseError:
    """The error for a missing column, with the most similar column that exists."""
    columns = list(columns)
    close = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1, cutoff=0.6)
    near = next((column for column in columns if close and column.lower() == close[0]), None)
    if near is None:
        hint = f"Name the one that holds it: --set cases.columns.{name}=…"
    else:
        hint = f"Did you mean `{near}`? Then: --set cases.columns.{name}={near}"
    listed = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
    return CaseError(f"there is no column `{name}` among {listed}", where=place, hint=hint)


def choice(fields: Fields, options: Mapping[str, str], answer: str | None, letter: str | None) -> Answer:
    """The gold option, from its letter, its text or both ("B. Pericarditis").

    Raises CaseError where there are fewer than two options, where the answer is empty or not among them, or where
    letter and text disagree.
    """
    if len(options) < 2:
        fields.fail(f"there are {len(options)} options", "Give at least two.")
    if answer is None and letter is None:
        fields.fail("the gold answer is empty", "Fill it in, or remove the row.")
    by_letter = {key.casefold(): key for key in options}
    by_text = {text.casefold(): key for key, text in reversed(list(options.items()))}
    if letter is not None:
        key = by_letter.get(letter.casefold())
        if key is None:
            fields.fail(
                f"the answer's letter `{letter}` is not among the options {', '.join(options)}", "Correct it."
            )
        agrees = answer is None or answer.casefold() in (options[key].casefold(), key.casefold())
        if not agrees and not _says(answer or "", key, options[key]):
            fields.fail(
                f"the answer `{answer}` is not what option {key} says: `{options[key]}`",
                "Correct one of them.",
            )
        return Answer("choice", options[key], letter=key)
    assert answer is not None
    key = by_text.get(answer.casefold()) or by_letter.get(answer.casefold())
    if key is None:
        key = next((key for key, text in options.items() if _says(answer, key, text)), None)
    if key is None:
        close = difflib.get_close_matches(answer, list(options.values()), n=1)
        fields.fail(
            f"the answer `{_short(answer)}` is not among the options",
            f"Did you mean `{close[0]}`?" if close else "Give an option's letter or its text.",
        )
    return Answer("choice", options[key], letter=key)


def choices(fields: Fields, options: Mapping[str, str], answers: Sequence[str]) -> Answer:
    """Several gold options, each by its letter, its text or both. CaseError as `choice`, and where one occurs twice."""
    letters = [choice(fields, options, answer, None).letter or "" for answer in answers]
    if not letters or len(set(letters)) < len(letters):
        fields.fail("the gold answer is empty or names an option twice", "Name each right option once.")
    ordered = tuple(letter for letter in options if letter in letters)
    return Answer("choices", "; ".join(options[letter] for letter in ordered), letters=ordered)


def _says(answer: str, key: str, text: str) -> bool:
    """Whether the answer is this option's "B. text"."""
    match = _LETTERED.match(answer)
    if match is None:
        return False
    return (match[1].casefold(), match[2].strip().casefold()) == (key.casefold(), text.casefold())


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
