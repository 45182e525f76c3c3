"""Which part of an answer is its result, and whether it is one at all. Looks at texts alone."""

from __future__ import annotations

import re

LONGEST = 500  # characters of a result
_STATED = re.compile(r"^(?:so |thus |hence )?(?:the )?(?:final )?answer(?: is)?\s*:?\s*(?=\S)", re.IGNORECASE)
_PAIRS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# Signs of a second result, or of doubt. "3 4" would be read as 3 + 4, as in a mixed number.
_SEVERAL = re.compile(
    r"\$|\\\(|\\\[|\\boxed|\\fbox|\n|\\approx|\\sim|\\simeq|≈|\d(?:\s|\\[,;:! ~]|\\q?quad|~|')+\d"
)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox|textit|operatorname)\s*\{([^{}]*)\}")
_DOUBT = re.compile(r"\b(?:or|and|not|no|never|maybe|but|if|unless|wrong)\b|[^A-Za-z\s.²³/]", re.IGNORECASE)
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_WHOLE = rf"[-+−]?\s*\\?\$?{_NUMBER}"
_FRACTION = rf"\\[dt]?frac\s*(?:\{{\s*-?{_NUMBER}\s*\}}\s*\{{\s*{_NUMBER}\s*\}}|\d\s*\d)"
_RATIO = rf"[-+−]?\s*(?:{_FRACTION}|{_NUMBER}\s*/\s*{_NUMBER})"
_NAMED = r"(?:[A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=\s*)?"
_UNIT = r"(?:\\?%|°|\^\s*\{?\\circ\}?|\\(?:text|mathrm)\s*\{[^{}]*\}|\\[,;: ]|\s)*"
_LITERAL = re.compile(rf"{_NAMED}(?:{_WHOLE}|(?P<ratio>{_RATIO})){_UNIT}")


def result_of(answer: str) -> str | None:
    """The expression that an answer is, without what is around it; None where it is several, hedged or too long."""
    text = answer.strip()
    before = None
    while before != text:
        before = text
        text = _unwrapped(_STATED.sub("", text).strip().removesuffix(".").strip())
    if not text or len(text) > LONGEST or _SEVERAL.search(text):
        return None
    outside = _TEXT.sub("", text).strip()
    inside = [found.strip() for found in _TEXT.findall(text)]
    hedged = outside and any(_DOUBT.search(part) for part in inside if part.lower() not in ("or", "and", ""))
    return None if hedged else text


def _unwrapped(text: str) -> str:
    """Without the dollars, brackets or box around the whole text."""
    for opening, closing in _PAIRS:
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner:
            return inner.strip()
    if match := _BOX.match(text):
        depth = 1
        for place in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[match.end() : place].strip() if place == len(text) - 1 else text
    return text


def same_text(one: str, other: str) -> bool:
    """Whether two results are written alike, up to spaces, capitals and \\text{…}."""
    return _bare(one) == _bare(other)


def _bare(text: str) -> str:
    return "".join(_TEXT.sub(r"\1", text).split()).lower()


def is_number(text: str) -> bool:
    """Whether a result is a number as written, with a name and a unit perhaps: "1,000", "x = -3", "1/2", "5 cm"."""
    return _LITERAL.fullmatch(text) is not None


def is_ratio(text: str) -> bool:
    """Whether such a number is written as a fraction."""
    match = _LITERAL.fullmatch(text)
    return match is not None and match["ratio"] is not None
