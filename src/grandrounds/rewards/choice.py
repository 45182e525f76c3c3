"""Which option an answer names.

An answer is read in a fixed order, whichever option is right, and the first reading that applies decides. Reading
twice and taking the better result would turn an unclear answer into a right one.

    bare letter            "B", "(b)", "B.", "Answer: B", "option B"
    option text            "Pericarditis", in any case, spelling, abbreviation or other name of the same thing
    with a rejection       "D, not B", "not B but D"
    letter and text        "B. Pericarditis", "B: pericarditis", "Pericarditis (B)", over several lines
    with an explanation    "B", and sentences below it that neither name another option nor take B back

A letter with the text of another option, or of none, contradicts itself: it names no option. Neither do two letters,
nor one letter repeated. A letter counts only where a delimiter follows it: "Diabetes" is not "D". A reason that follows
("B, because …") is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grandrounds.rewards.explanation import explains, names_another
from grandrounds.rewards.layers import LAYERS, two_names
from grandrounds.rewards.surface import one_line, plain, said, unwrap, without_reason
from grandrounds.rewards.text import contains, mentioned, named, similar, written_out

# (letter or None, the rule that decided)
Choice = tuple[str | None, str]

_BARE = re.compile(r"[(\[<\"'“_]*([A-Za-z0-9])[)\]>\"'”.:;,!?]*")
_LETTERS = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")
_BETWEEN = frozenset(",;/&+|()[].:'\"")
_LETTERED = re.compile(
    r"(?:[(\[](?P<a>[A-Za-z0-9])[)\]]\s?[.:,]?|(?P<b>[A-Za-z0-9])\s?[.:)\]]"
    r"|(?P<c>[A-Z])\s[-–—]|(?P<d>[A-Z]),?)\s(?:[-–—]\s)?(?P<text>.+)$"
)
_TRAILING = re.compile(
    r"^(?P<text>.+?)(?:,?\s[(\[](?:option )?(?P<a>[A-Za-z0-9])[)\]]|,?\s(?P<b>[A-Z]))$", re.IGNORECASE
)
_BRACKETED = re.compile(r"^(?P<a>[A-Za-z0-9])\s\((?P<text>[^()]+)\)$")
_REJECTS_AFTER = re.compile(
    r"^(?P<kept>.+?)(?:,?\s(?:(?:and|but)\s)?(?:not|rather than|instead of)\s(?P<other>[^()]+)"
    r"|\s\((?:and\s)?not\s(?P<inside>[^()]+)\))$",
    re.IGNORECASE,
)
_REJECTS_BEFORE = re.compile(
    r"^(?:it(?:'s| is)\s)?not\s(?P<other>.+?)(?:,?\sbut\s|[,;]\sit(?:'s| is)\s)(?P<kept>.+)$", re.IGNORECASE
)
_ANY_OF = re.compile(r",?\s(?:and|or|nor)\s|,\s?|/")
_ALONE = re.compile(r"^(?:both|only|just|options?)\s|\sonly$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=\w)[.;]\s")


def read_choice(answer: str, options: Mapping[str, str]) -> Choice:
    """(letter of the option that an answer names, the rule that decided); or None and why it names none."""
    options = {letter: unwrap(option) for letter, option in options.items()}
    choice = _read(unwrap(answer), options)
    # An option may itself say "the answer is …", so the whole is read first.
    return (
        choice
        if choice[0] is not None or (final := said(answer)) == unwrap(answer)
        else _read(final, options)
    )


def _read(answer: str, options: Mapping[str, str]) -> Choice:
    text = plain(answer)
    letters = {letter.upper(): letter for letter in options}
    alone = _letters_alone(text)
    if len(alone) == 1 and alone[0] in letters:
        return letters[alone[0]], "letter"
    choice = (
        _by_text(one_line(answer), options)
        or (_by_text(text, options) if text != one_line(answer) else None)
        or _by_rejection(text, options)
        or _by_two_names(text, options)
        or _by_letter_and_text(text, options, letters)
        or _by_reason(text, options)
        or (None, "no option")
    )
    if choice[0] is None and len(alone) > 1:
        return None, "several letters"
    return choice if choice[0] is not None else (_by_explanation(answer, options) or choice)


def read_choices(answer: str, options: Mapping[str, str]) -> frozenset[str] | None:
    """The letters of all options that an answer names, None where a part of it names none or two.

    Parts stand between semicolons or on lines of their own, else between commas or "and". Bare letters may also stand
    side by side: "A, C", "A and C", "AC".
    """
    answer = said(answer)
    text, rejected = _without_rejected(_ALONE.sub("", plain(answer)).strip("[]"))
    letters = {letter.upper(): letter for letter in options}
    alone = _letters_alone(text) or _letters_together(text, letters)
    if len(alone) > 1:
        known = len(set(alone)) == len(alone) and all(letter in letters for letter in alone)
        clear = known and not re.search(r"\bor\b", text) and rejected.isdisjoint(alone)
        return frozenset(letters[letter] for letter in alone) if clear else None
    for border, whole in ((r"[;\n]+", answer), (r",|\band\b", text)):
        parts = [part.strip(" -*•\t") for part in re.split(border, whole)]
        read = [read_choice(_ALONE.sub("", part), options)[0] for part in parts if part]
        if read and all(letter is not None for letter in read):
            return frozenset(letter for letter in read if letter is not None)
    return None


def _without_rejected(text: str) -> tuple[str, set[str]]:
    """(a text without "not B" behind it, the letters rejected); the text as it is where it rejects no letters."""
    match = _REJECTS_AFTER.match(text)
    rejected = _letters_alone(match["other"] or match["inside"]) if match else []
    return (match["kept"], set(rejected)) if match and rejected else (text, set())


def _letters_alone(text: str) -> list[str]:
    """The letters, in capitals, of an answer that consists only of letters, as often as it names them.

    Two letters need no more between them than "and", "or" or a sign. Several small ones need a comma: "is a" is a text.
    """
    if match := _BARE.fullmatch(text):
        return [match[1].upper()]
    found = []
    for part in _LETTERS.findall(text):
        if len(part) == 1 and part.isalnum():
            found.append(part)
        elif part not in ("and", "or") and part not in _BETWEEN:
            return []
    small = any(letter.islower() for letter in found)
    return [letter.upper() for letter in found] if not small or "," in text else []


def _letters_together(text: str, letters: Mapping[str, str]) -> list[str]:
    """The letters of "ACD": capitals in the order of the options, each an option's."""
    ordered = text.isalpha() and text.isupper() and list(text) == sorted(set(text))
    return list(text) if ordered and all(letter in letters for letter in text) else []


def _by_text(text: str, options: Mapping[str, str]) -> Choice | None:
    """The option that has this text, by the first layer in which any has."""
    if not text:
        return None
    for layer, same in LAYERS:
        found = [letter for letter, option in options.items() if same(text, option)]
        if len(found) == 1:
            return found[0], "option text" if layer == "normalised" else layer
        if found:
            return None, "two options have this text"
    return None


def _by_reason(text: str, options: Mapping[str, str]) -> Choice | None:
    """The option that stands before a reason: "Pericarditis, because …", "option B is best since …"."""
    kept = without_reason(text)
    letter = _strictly(kept, options) if kept != text else None
    return (
        None
        if letter is None or names_another(text[len(kept) :], letter, options)
        else (letter, "with a reason")
    )


def _by_two_names(text: str, options: Mapping[str, str]) -> Choice | None:
    """The option that both of two names side by side name: "Epinephrine (adrenaline)"."""
    read = [_by_text(name, options) for name in two_names(text)]
    letters = {choice[0] for choice in read if choice}
    return (letters.pop(), "two names") if all(read) and len(letters) == 1 and None not in letters else None


def _by_rejection(text: str, options: Mapping[str, str]) -> Choice | None:
    """The option that is kept where others are rejected. None where nothing is, or where the kept one is rejected."""
    match = _REJECTS_AFTER.match(text) or _REJECTS_BEFORE.match(text)
    if match is None:
        return None
    groups = match.groupdict()
    kept = _strictly(match["kept"], options)
    others = [
        _strictly(part, options) for part in _ANY_OF.split(groups["other"] or groups.get("inside") or "")
    ]
    return (kept, "rejection") if kept and all(others) and kept not in others else None


def _strictly(text: str, options: Mapping[str, str]) -> str | None:
    """The option of a text that is a letter, an option's text, or both."""
    text, letters = plain(text), {letter.upper(): letter for letter in options}
    alone = _letters_alone(text)
    if alone:
        return letters.get(alone[0]) if len(alone) == 1 else None
    choice = _by_text(text, options) or _by_letter_and_text(text, options, letters)
    return choice[0] if choice else None


def _by_letter_and_text(text: str, options: Mapping[str, str], letters: Mapping[str, str]) -> Choice | None:
    """A letter with text after it, or before it where that text is an option's. None without a letter."""
    match = _TRAILING.match(text)
    if match is None or _by_text(match["text"], options) is None:
        match = _BRACKETED.match(text) or _LETTERED.match(text)
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
        return not names_another(text, letter, options)  # "B, because …"
    given, own = written_out(text), written_out(options[letter])
    if by_text is not None:
        return by_text[0] == letter or (by_text[0] is None and named(text) == named(options[letter]))
    others = [written_out(option) for other, option in options.items() if other != letter]
    if similar(given, own):
        return not any(similar(given, other) for other in others)
    return contains(given, own) and mentioned(text, options) == [letter]


def _by_explanation(answer: str, options: Mapping[str, str]) -> Choice | None:
    """The option that the first line names, or the text before the first sentence's end, where the rest explains it."""
    head, _, rest = answer.strip().partition("\n")
    if not rest.strip():
        end = _SENTENCE_END.search(head)
        # "B. Lupus" is no "B" with an explanation in the same line.
        if end is None or end.start() < 3:
            return None
        head, rest = head[: end.start()], head[end.end() :]
    letter = _strictly(head, options)
    if letter is None or not explains(rest, letter, options):
        return None
    return letter, "with an explanation"
