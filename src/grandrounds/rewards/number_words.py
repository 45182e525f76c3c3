"""Numbers in words and fractions, as figures: "two thirds", "one and a half", "twenty-five thousand", "1½"."""

from __future__ import annotations

import re

_BELOW_TWENTY = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_NAMES_OF_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = {word: number for number, word in enumerate(_BELOW_TWENTY)}
_TENS = {word: 10 * number for number, word in enumerate(_NAMES_OF_TENS, 2)}
SMALL = _ONES | _TENS
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_TIMES = {"hundred": 100.0, "dozen": 12.0, **SCALES}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
_PARTS |= {f"{word}s": number for word, number in _PARTS.items() if word not in ("half", "halves")}
_VULGAR = {
    "½": "1/2",
    "⅓": "1/3",
    "⅔": "2/3",
    "¼": "1/4",
    "¾": "3/4",
    "⅕": "1/5",
    "⅛": "1/8",
    "⅜": "3/8",
    "⅝": "5/8",
}
_VULGAR_SIGN = re.compile(r"(\d?)\s?([½⅓⅔¼¾⅕⅛⅜⅝])")
_MIXED = re.compile(r"(?<![\d/.,])(\d{1,6})(?:\s|\s?and\s)(\d{1,3})/(\d{1,3})(?![\d/.])")
_ABOUT = frozenset(("about", "approximately", "roughly", "exactly", "around", "nearly", "almost"))
# More words behind the number are no unit.
MOST_UNIT_WORDS = 3


def as_figures(text: str) -> str:
    """A text with its mixed numbers as decimal ones, or the number that it begins with in words as figures."""
    text = _VULGAR_SIGN.sub(lambda match: f"{match[1]} {_VULGAR[match[2]]}".strip(), text)
    text = _MIXED.sub(_decimal, text)
    return text if any(character.isdigit() for character in text) else _from_words(text)


def _decimal(match: re.Match[str]) -> str:
    whole, above, below = (int(part) for part in match.groups())
    return repr(whole + above / below) if 0 < above < below else match[0]


def _from_words(text: str) -> str:
    """The text where it does not begin with a number in words, or holds more words than a number with its unit."""
    words = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.strip().lower()).split()
    while words and words[0] in _ABOUT:
        del words[0]
    negative = words[:1] in (["minus"], ["negative"])
    value, used = _value(words[negative:])
    rest = words[negative + used :]
    if value is None or len(rest) > MOST_UNIT_WORDS or not _MEANINGFUL.isdisjoint(rest):
        return text
    unit = " ".join(rest[1:] if rest[:1] in (["a"], ["an"], ["of"]) else rest)
    return f"{'-' if negative else ''}{value!r} {unit}".strip()


def _value(words: list[str]) -> tuple[float | None, int]:
    """(the number that some words begin with, how many of them say it)."""
    if len(words) > 12:
        return None, 0
    for used in range(len(words), 0, -1):
        value = _whole_value([word for word in words[:used]])
        if value is not None:
            return value, used
    return None, 0


def _whole_value(words: list[str]) -> float | None:
    """The number that all of the words say, or None: "two and a half", "three quarters", "nine thousand"."""
    if words[0] in ("a", "an") and len(words) > 1 and (words[1] in _TIMES or words[1] in _PARTS):
        words = ["one", *words[1:]]
    if words[-1] in _PARTS:
        above = ["one"] if len(words) == 1 and words[0] == "half" else words[:-1]
        if "and" in above:
            place = len(above) - 1 - above[::-1].index("and")
            whole, above = _cardinal(above[:place]), above[place + 1 :]
        else:
            whole = 0.0
        part = 1.0 if above in (["a"], ["an"]) else _cardinal(above)
        return None if whole is None or part is None else whole + part / _PARTS[words[-1]]
    return _cardinal(words)


def _cardinal(words: list[str]) -> float | None:
    """A count in words, or None. Each group of thousands is at most 999."""
    if not words or words[-1] == "and" or words[0] == "and":
        return None
    total, group, last = 0.0, 0.0, "start"
    for word in words:
        if word == "and":
            continue
        if word in SMALL:
            kind = "tens" if word in _TENS else "ones"
            if last == "ones" or (last == "tens" and (kind == "tens" or not 1 <= SMALL[word] <= 9)):
                return None
            group, last = group + SMALL[word], kind
        elif word in ("hundred", "dozen"):
            group, last = max(group, 1.0) * _TIMES[word], "times"
        elif word in SCALES:
            total, group, last = total + max(group, 1.0) * SCALES[word], 0.0, "times"
        else:
            return None
    return total + group


_MEANINGFUL = frozenset((*SMALL, *_TIMES, *_PARTS, "or", "and", "to", "not", "no", "minus", "plus", "times"))
