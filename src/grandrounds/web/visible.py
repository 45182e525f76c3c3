"""Makes any text fit to be shown: what cannot be seen, or would change how others look, is written out; what is
endless is cut."""

from __future__ import annotations

# Join and separate letters in several scripts, and harm nothing.
_JOINERS = "\u200c\u200d"
# Characters of a response or question that are shown.
LONGEST = 8000


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and how much is left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\n[cut here: {len(text) - longest:,} more characters are not shown]"


def visible(text: str) -> str:
    """Control and formatting characters written out: an escape as [U+001B], a right-to-left override as [U+202E]."""
    if text.isprintable():
        return text
    return "".join(map(_visible, text.replace("\r\n", "\n")))


def _visible(char: str) -> str:
    if char.isprintable() or char in "\n\t" or char in _JOINERS or char.isspace():
        return char if char not in "\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029" else _written_out(char)
    return _written_out(char)


def _written_out(char: str) -> str:
    return f"[U+{ord(char):04X}]"
