"""Gold answers from text: numbers as numbers, everything else as text or as the kind that is asked for."""

from __future__ import annotations

import re

from grandrounds.cases.formats.fields import Fields
from grandrounds.types import Answer

_NUMBER = re.compile(r"^\s*([-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(.*)$", re.DOTALL)
# A number that nobody said is a measurement (a count, a result of arithmetic) has to be met exactly.
EXACTLY = 1e-6
MEASURED = 0.01
# A case that only a reward of the user's can judge.
NO_GOLD = Answer("none", "")


def gold_answer(
    fields: Fields,
    text: str,
    *,
    kind: str | None = None,
    synonyms: tuple[str, ...] = (),
    unit: str | None = None,
    tolerance: float | None = None,
) -> Answer:
    """The gold answer that a text is: a number where it is nothing else, or where `kind` says so; else `kind` or text.

    Raises CaseError where it is empty, or no number though it should be one.
    """
    if not text:
        fields.fail("the gold answer is empty", "Fill it in, or remove the row.")
    match = _NUMBER.match(text)
    number = _float(match[1]) if match else None
    bare = number is not None and match is not None and not match[2]
    if kind == "number" or (kind is None and bare):
        if number is None or match is None:
            fields.fail(f"the answer `{text}` is no number", "Write the number first, then its unit.")
        measured = kind == "number" or unit is not None
        return Answer(
            "number",
            text,
            synonyms=synonyms,
            value=number,
            unit=unit or match[2].strip() or None,
            tolerance=tolerance if tolerance is not None else (MEASURED if measured else EXACTLY),
        )
    return Answer(kind or "text", text, synonyms=synonyms)


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("−", "-"))
    except ValueError:
        return None
