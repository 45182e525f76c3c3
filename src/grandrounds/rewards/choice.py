"""Which option an answer names.

An answer is read in a fixed order, whichever option is right, and the first reading that applies decides. Reading
twice and taking the better result would turn an unclear answer into a right one.

    bare letter            "B", "(b)", "B.", "Answer: B", "option B"
    option text            "Pericarditis", in any case, spelling or abbreviation
    letter and text        "B. Pericarditis", "B: pericarditis", "Pericarditis (B)", over several lines

A letter with the text of another option, or of none, contradicts itself: it names no option. Neither do two letters. A
letter counts only where a delimiter follows it: "Diabetes" is not "D". A reason that follows ("B, because …") is
dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grandrounds.rewards.text import MARKDOWN, contains, mentioned, normalise, similar, written_out

# (letter or None, the rule that decided)
Choice = tuple[str | None, str]

_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore),?\s)?(?:i (?:think|believe|choose)(?: that)?(?: it is)?\s)?"
    r"(?:(?:(?:the|my)\s)?(?:(?:most likely|correct|best|final|right)\s)?"
    r"(?:answer|option|choice|diagnosis|letter)(?:\s?(?:is|would be|must be)\b)?\s?:?\s)?",
    re.IGNORECASE,
)
_TAIL = re.compile(r"\s(?:is|would be)(?: the)? (?:correct|right|best|most likely)(?: \w+)?$", re.IGNORECASE)
_REASON = re.compile(
    r"(?:^|,?\s)\(?(?:because|since|as it|as the|given that)\s.*$", re.IGNORECASE | re.DOTALL
)
_BARE = re.compile(r"[(\[]?([A-Za-z0-9])[)\].:]*")
_SEVERAL = re.compile(
    r"[(\[]?[A-Z][)\].]?(?:\s?(?:,|/|&|\+|\band\b|\bor\b|\s)\s?(?:and |or )?[(\[]?[A-Z][)\].]?)+"
)
_LETTERED = re.compile(
    r"(?:[(\[](?P<a>[A-Za-z0-9])[)\]]\s?[.:,]?|(?P<b>[A-Za-z0-9])\s?[.:)\]]"
    r"|(?P<c>[A-Z])\s[-–—]|(?P<d>[A-Z]),?)\s(?:[-–—]\s)?(?P<text>.+)$"
)
_TRAILING = re.compile(
    r"^(?P<text>.+?)(?:,?\s[(\[](?:option )?(?P<a>[A-Za-z0-9])[)\]]|,?\s(?P<b>[A-Z]))$", re.IGNORECASE
)


def read_choice(answer: str, options: Mapping[str, str]) -> Choice:
    """(letter of the option that an answer names, the rule that decided); or None and why it names none."""
    text = plain(answer)
    letters = {letter.upper(): letter for letter in options}
    alone = _letters_alone(text)
    if len(alone) == 1 and alone[0] in letters:
        return letters[alone[0]], "letter"
    choice = (
        _by_text(one_line(answer), options)
        or _by_text(text, options)
        or _by_letter_and_text(text, options, letters)
        or _by_text(without_reason(text), options)
        or (None, "no option")
    )
    return (None, "several letters") if choice[0] is None and len(alone) > 1 else choice


def read_choices(answer: str, options: Mapping[str, str]) -> frozenset[str] | None:
    """The letters of all options that an answer names, None where a part of it names none or two.

    Parts stand between semicolons or on lines of their own, else between commas or "and". Bare letters may also stand
    side by side: "A, C", "A and C", "AC".
    """
    alone = _letters_alone(plain(answer))
    letters = {letter.upper(): letter for letter in options}
    if len(alone) > 1 and all(letter in letters for letter in alone):
        return frozenset(letters[letter] for letter in alone)
    for border in (r"[;\n]+", r",|\band\b"):
        parts = [part.strip(" -*•\t") for part in re.split(border, answer)]
        read = [read_choice(part, options)[0] for part in parts if part]
        if read and all(letter is not None for letter in read):
            return frozenset(letter for letter in read if letter is not None)
    return None


def one_line(answer: str) -> str:
    """The answer in one line, without markdown and final period."""
    return " ".join(MARKDOWN.sub("", answer).split()).removesuffix(".")


def plain(answer: str) -> str:
    """The answer in one line, without "The answer is …"."""
    return _TAIL.sub("", _LEAD.sub("", one_line(answer), count=1)).strip()


def without_reason(text: str) -> str:
    """A plain answer without its reason: "Pericarditis, because of the friction rub" becomes "Pericarditis"."""
    return _REASON.sub("", text).strip()


def _letters_alone(text: str) -> list[str]:
    """The distinct letters, in capitals, of an answer that consists only of letters."""
    if match := _BARE.fullmatch(text):
        return [match[1].upper()]
    if not _SEVERAL.fullmatch(text):
        return []
    return list(dict.fromkeys(re.findall(r"\b[A-Z]\b", text)))


def _by_text(text: str, options: Mapping[str, str]) -> Choice | None:
    """The option that has this text: first normalised, then with abbreviations written out."""
    for layer, form in (("option text", normalise), ("abbreviation", written_out)):
        given = form(text)
        same = [letter for letter, option in options.items() if given and form(option) == given]
        if len(same) == 1:
            return same[0], layer
        if same:
            return None, "two options have this text"
    return None


def _by_letter_and_text(text: str, options: Mapping[str, str], letters: Mapping[str, str]) -> Choice | None:
    """A letter with text after it, or before it where that text is an option's. None without a letter."""
    match = _TRAILING.match(text)
    if match is None or _by_text(match["text"], options) is None:
        match = _LETTERED.match(text)
    if match is None:
        return None
    given = next(group for name, group in match.groupdict().items() if name != "text" and group)
    letter = letters.get(given.upper())
    if letter is None:
        return None, "no such letter"
    if _says(match["text"], letter, options):
        return letter, "letter and text"
    return None, "letter and text disagree"


def _says(text: str, letter: str, options: Mapping[str, str]) -> bool:
    """Whether a text names the letter's option, with or without a reason, and no other option."""
    by_text = _by_text(text, options) or _by_text(without_reason(text), options)
    if by_text is None and not without_reason(text):
        return True  # "B, because …"
    given, own = written_out(text), written_out(options[letter])
    if by_text is not None:
        return by_text[0] == letter or (by_text[0] is None and given == own)
    others = [written_out(option) for other, option in options.items() if other != letter]
    if similar(given, own):
        return not any(similar(given, other) for other in others)
    return contains(given, own) and mentioned(text, options) == [letter]
