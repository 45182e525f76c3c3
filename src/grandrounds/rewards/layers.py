"""The layers by which two short texts are the same, from the strictest to the most lenient."""

from __future__ import annotations

import re
from collections.abc import Callable

from grandrounds.rewards.dates import same_date
from grandrounds.rewards.numbers import same_amount
from grandrounds.rewards.text import named, normalise, similar, written_out

Same = Callable[[str, str], bool]


def _by(form: Callable[[str], str]) -> Same:
    return lambda text, other: form(text) == form(other) != ""


LAYERS: tuple[tuple[str, Same], ...] = (
    ("normalised", _by(normalise)),
    ("abbreviation", _by(written_out)),
    ("name", _by(named)),
    ("amount", same_amount),
    ("date", same_date),
    (
        "similarity",
        lambda text, other: any(similar(form(text), form(other)) for form in (named, written_out)),
    ),
)
# Two names side by side: "acetaminophen (paracetamol)", "acetaminophen/paracetamol".
_TWO_NAMES = re.compile(
    r"^(?P<one>[^()/]+?)\s?(?:\((?P<inside>[^()]+)\)"
    r"|(?:/|,?\s(?:also known as|also called|aka|i\.e\.),?)\s?(?P<by>[^()/]+))$"
)


def same_text(text: str, gold: str, synonyms: tuple[str, ...] = ()) -> str | None:
    """The layer by which two texts are the same, or None. Of two names side by side, both must be the gold answer's."""
    if layer := _same_name(text, gold, synonyms):
        return layer
    names = two_names(text)
    found = [_same_name(name, gold, synonyms) for name in names]
    return found[0] if found and all(found) else None


def _same_name(text: str, gold: str, synonyms: tuple[str, ...]) -> str | None:
    for layer, same in LAYERS:
        if same(text, gold):
            return layer
        if any(same(text, synonym) for synonym in synonyms):
            return "synonym"
    return None


def two_names(text: str) -> tuple[str, ...]:
    """The two names of "X (Y)", "X/Y" or "X, also known as Y"; empty for any other text."""
    match = _TWO_NAMES.match(text)
    return (match["one"], match["inside"] or match["by"]) if match else ()
