"""Which option an answer names.

The order in which an answer is read never depends on which option is right, and the first reading that
applies decides: reading twice and taking the better would turn an unclear answer into a correct one.

    bare letter            "B", "(b)", "B.", "Answer: B", "option B"
    option text            "Pericarditis", in any case, spelling or abbreviation
    letter and text        "B. Pericarditis", "B: pericarditis", "Pericarditis (B)", over several lines

A letter whose text is that of another option, or of none, contradicts itself and is no answer; neither are
two letters. A letter is one only where a delimiter follows it: "Diabetes" is not "D". A reason given ("B,
because …") is left away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grandrounds.rewards.text import contains, mentioned, normalise, similar, written_out

# (letter or None, what decided)
Choice = tuple[str | None, str]

_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore),?\s)?(?:i (?:think|believe|choose)(?: that)?(?: it is)?\s)?"
    r"(?:(?:(?:the|my)\s)?(?:(?:most likely|correct|best|final|right)\s)?"
    r"(?:answer|option|choice|diagnosis|letter)(?:\s?(?:is|would be|must be)\b)?\s?:?\s)?",
    re.IGNORECASE,
)
_TAIL = re.compile(r"\s(?:is|would be)(?: the)? (?:correct|right|best|most likely)(?: \w+)?$", re.IGNORECASE)
_BECAUSE = re.compile(r",?\s\(?(?:because|since|as it|as the|given that)\s.*$", re.IGNORECASE | re.DOTALL)
_BARE = re.compile(r"[(\[]?([A-Za-z0-9])[)\].:]*")
_LETTERED = re.compile(
    r"(?:[(\[]([A-Za-z0-9])[)\]]\s*[.:,-]?|([A-Za-z0-9])\s?[.:)\]]|([A-Z])\s[-–—]|([A-Z]),?)(?=\s)"
)
_TRAILING = re.compile(r"^(?P<text>.+?)\s*[(\[](?:option )?(?P<letter>[A-Za-z0-9])[)\]]$", re.IGNORECASE)
_SEVERAL = re.compile(
    r"[(\[]?[A-Z][)\]]?(?:\s?(?:,|/|&|\+|\band\b|\bor\b|\s)\s?(?:and |or )?[(\[]?[A-Z][)\].]?)+"
)


def read_choice(answer: str, options: Mapping[str, str]) -> Choice:
    """The letter of the option that an answer names, or None and why not."""
    text = plain(answer)
    letters = {letter.upper(): letter for letter in options}
    if match := _BARE.fullmatch(text):
        letter = letters.get(match[1].upper())
        if letter is not None:
            return letter, "letter"
    by_text = _by_text(text, options)
    if by_text is not None:
        return by_text
    if _SEVERAL.fullmatch(text):
        return None, "several letters"
    return _by_letter_and_text(text, options, letters)


def plain(answer: str) -> str:
    """One line, without markdown, "The answer is …", reasons given, and a final period."""
    text = " ".join(answer.replace("**", "").replace("__", "").replace("`", "").split())
    text = _LEAD.sub("", text, count=1)
    return _BECAUSE.sub("", _TAIL.sub("", text.removesuffix("."))).strip()


def _by_text(text: str, options: Mapping[str, str]) -> Choice | None:
    """An option whose text this is: normalised first, abbreviations written out second."""
    for layer, form in (("option text", normalise), ("abbreviation", written_out)):
        given = form(text)
        same = [letter for letter, option in options.items() if given and form(option) == given]
        if len(same) == 1:
            return same[0], layer
        if same:
            return None, "two options have this text"
    return None


def _by_letter_and_text(text: str, options: Mapping[str, str], letters: Mapping[str, str]) -> Choice:
    if match := _LETTERED.match(text):
        given = next(group for group in match.groups() if group)
        rest = text[match.end() :].strip()
    elif match := _TRAILING.match(text):
        given, rest = match["letter"], match["text"]
    elif (words := text.rsplit(" ", 1))[-1].strip(".()") in letters and len(words) == 2:
        given, rest = words[1].strip(".()"), words[0]
        if _by_text(plain(rest), options) is None:
            return None, "no option"
    else:
        return None, "no option"
    letter = letters.get(given.upper())
    if letter is None:
        return None, "no such letter"
    if _says(rest, letter, options):
        return letter, "letter and text"
    return None, "letter and text disagree"


def _says(text: str, letter: str, options: Mapping[str, str]) -> bool:
    """Whether a text is the letter's option and no other."""
    by_text = _by_text(text.strip(" .-"), options)
    if by_text is not None:
        return by_text[0] == letter or (
            by_text[0] is None and written_out(text.strip(" .-")) == written_out(options[letter])
        )
    given, own = written_out(text), written_out(options[letter])
    others = [written_out(option) for other, option in options.items() if other != letter]
    if similar(given, own):
        return not any(similar(given, other) for other in others)
    return contains(given, own) and mentioned(text, options) == [letter]
