"""Whether two short texts mean the same: normalisation, abbreviations, names of one concept, and a cautious similarity.

Similarity ignores only the order of the parts of a name ("heart failure", "failure of the heart"), a typing slip in a
long word, and a missing "disease". It never ignores a negation, a number, a side, or a prefix (hypo- is not hyper-).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from grandrounds.domain import abbreviations, synonyms
from grandrounds.rewards.number_words import SMALL
from grandrounds.rewards.surface import MARKDOWN

# Characters without meaning between words. Signs with meaning (%, +, <, >, /, arrows) are kept.
_PUNCTUATION = re.compile(r"[\"'`*_(){}\[\]|~!?;:]|[.,](?!\d)|(?<!\d)[.,]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_HYPHEN = re.compile(r"(?<=\w)-(?=\w)|(?<!\S)-(?!\d)|-(?!\S)")
_DASHES = str.maketrans({dash: "-" for dash in "‐‑‒–—―−"} | {"’": "'", "‘": "'", "“": '"', "”": '"'})
_MARKS = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_DIGRAPHS = re.compile(r"(?<=[a-z])(?:ae|oe)|\boe(?=[a-z]{3})|\bae(?=[a-z]{3})")
_POSSESSIVE = re.compile(r"(?<=[a-z])'s\b")
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8"}
_NUMBERED = re.compile(
    r"\b(type|grade|stage|class|factor|nerve|article|art|section|chapter|title|amendment|phase|level|group)"
    r" (viii|vii|vi|iv|v|iii|ii|i)\b"
)
_CAPITALS = re.compile(r"\b[A-Z][A-Z0-9]{1,6}\b")
_ACRONYM = re.compile(r"^(?P<long>.{4,200}?) ?\((?P<short>[A-Za-z0-9-]{2,8})\)$", re.DOTALL)

NEGATIONS = frozenset(
    {"no", "not", "non", "never", "without", "neither", "nor", "absent", "absence", "exclude"}
)
NEGATIONS |= {"excluded", "excludes", "unlikely", "denies", "denied", "ruled"}
_DENIED_AFTER = re.compile(
    r"^(?:is|was|are|has been|seems) not\b|^(?:(?:is|was|are|has been|seems) )?"
    r"(?:(?:very )?unlikely|excluded|ruled out|less)"
)
_SENTENCE = re.compile(r"[;:!?](?=\s|$)|\n|(?<=\w\w\w)\.(?=\s+[A-Z]|\s*$)")
_LITTLE = frozenset(("the", "a", "an", "of", "with", "in", "to", "due", "and"))
# A missing one is ignored, but "disease" for "syndrome" is not: Cushing's are two conditions.
_KINDS = frozenset(("disease", "disorder", "syndrome"))
_DROPPABLE = _LITTLE | _KINDS
# Between the parts of a name: "X of Y" is "Y X".
_LINKS = re.compile(r" (?:due to|secondary to|caused by|of|in) ")
_LINKING = frozenset(("secondary", "caused", "by"))
# "a" is an article only where no letter can stand: "hepatitis A" keeps it.
_ARTICLE = re.compile(r"\b(?:the|an) |(?:(?<=\bof )|(?<=\bin )|(?<=\bwith )|(?<=\bto ))a (?=\w)")
_ARTICLE_FIRST = re.compile(r"^\s*[Aa] (?=[a-z])")
_BRITISH = re.compile(r"(?<=\w\w)is(?=(?:ations?|e[ds]?|ing)\b)|(?<=\w\w\w)our\b")
_GREEK = {"α": "alpha ", "β": "beta ", "γ": "gamma ", "δ": "delta ", "κ": "kappa ", "λ": "lambda "}
_GREEK_SIGN = re.compile("[αβγδκλ]")
_GREEK_FIGURE = re.compile(r"\b(alpha|beta|gamma|delta)(?=\d)")
_RANGE = re.compile(r"(?<=\d) to (?=\d)")  # "5 to 7" is "5-7", whose hyphen is a space by now
_FIGURES = {word: str(number) for word, number in SMALL.items()} | {
    "first": "1st",
    "second": "2nd",
    "third": "3rd",
    "fourth": "4th",
    "fifth": "5th",
    "sixth": "6th",
    "seventh": "7th",
    "eighth": "8th",
    "ninth": "9th",
    "tenth": "10th",
}
_SAME_WORD = {
    "&": "and",
    "percent": "%",
    "sec": "section",
    "art": "article",
    "§": "section",
    "vs": "v",
    "versus": "v",
}
# A figure behind the word for it: "thirty (30) days".
_TWICE = re.compile(r"\b(\d+) \1\b")
LONGEST_NAME = 60  # characters; longer texts have no slips
MOST_TURNED = 6  # words


def normalise(text: str) -> str:
    """Lower case, one spelling (haem- becomes hem-, accents removed), no punctuation, single spaces."""
    # Names and findings recur, so they are cached. Whole reasonings never recur and would fill the cache.
    return _remembered(text) if len(text) <= 400 else _normalised(text)


def _normalised(text: str) -> str:
    text = MARKDOWN.sub("", unicodedata.normalize("NFKC", text)).translate(_DASHES).casefold()
    text = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    text = _POSSESSIVE.sub("", text)
    text = _PUNCTUATION.sub(" ", _THOUSANDS.sub("", text))
    text = " ".join(_HYPHEN.sub(" ", text).split())
    text = _NUMBERED.sub(lambda match: f"{match[1]} {_ROMAN[match[2]]}", text)
    return _DIGRAPHS.sub("e", text)


_remembered = lru_cache(maxsize=65_536)(_normalised)


@lru_cache(maxsize=16_384)
def written_out(text: str) -> str:
    """Normalised, with abbreviations written out, and without an "(ALS)" after the words that it abbreviates."""
    if text.islower() and len(text) >= 3 and (known := abbreviations().get(text.upper())):
        return normalise(known)
    match = _ACRONYM.match(text.strip())
    if match and _stands_for(match["short"], match["long"]):
        text = match["long"]
    return normalise(_CAPITALS.sub(lambda match: abbreviations().get(match[0], match[0]), text))


def _stands_for(short: str, long: str) -> bool:
    """Whether a short form abbreviates a text: as a known one, by initials, or by letters in order ("PMR")."""
    short, words = normalise(short), normalise(long).split()
    if not short or not words:
        return False
    if known := abbreviations().get(short.upper()):
        return normalise(known) == " ".join(words)
    initials = "".join(word[0] for word in words)
    core = "".join(word[0] for word in words if word not in _DROPPABLE)
    return short in {initials, core} or (short[0] == initials[0] and _in_order(core, short, words))


def _in_order(initials: str, short: str, words: list[str]) -> bool:
    """Whether a short form has the initials in order, and its other letters are letters of the words in order."""
    left, letters = iter(short), iter("".join(words))
    return all(letter in left for letter in initials) and all(letter in letters for letter in short)


def negated(text: str) -> bool:
    """Whether a normalised text denies something."""
    return not NEGATIONS.isdisjoint(text.split())


def named(text: str) -> str:
    """`written_out`, without articles, with figures for number words, and one name for each concept.

    The whole text is rewritten and then compared as a whole: a name within it is replaced, never looked for.
    """
    return _named(written_out(_ARTICLE_FIRST.sub("", text, count=1)))


@lru_cache(maxsize=16_384)
def _named(text: str) -> str:
    names, single, longest = _names()
    words = [single.get(word, word) for word in _prepared(text).split()]
    found, place = [], 0
    while place < len(words):
        for size in range(min(longest, len(words) - place), 0, -1):
            if name := names.get(" ".join(words[place : place + size])):
                found.append(name)
                break
        else:
            size = 1
            found.append(words[place])
        place += size
    return " ".join(found)


def _prepared(text: str) -> str:
    """A normalised text with figures for number words, without articles and the "s" of plurals."""
    text = _GREEK_FIGURE.sub(r"\1 ", _GREEK_SIGN.sub(lambda match: _GREEK[match[0]], text))
    words = (_FIGURES.get(word) or _SAME_WORD.get(word) or word for word in text.split())
    text = _ARTICLE.sub("", _RANGE.sub(" ", _TWICE.sub(r"\1", " ".join(words))))
    text = " ".join(_singular(word) for word in text.split())
    return _BRITISH.sub(lambda match: "iz" if match[0] == "is" else "or", text)


def _singular(word: str) -> str:
    """A word without the "s" of a plural. Both sides are treated alike, so that "diabete" does no harm."""
    plural = (
        len(word) >= 5 and word.endswith("s") and not word.endswith(("ss", "us", "is", "ous", "as", "os"))
    )
    return word[:-1] if plural and word.isalpha() else word


@lru_cache(maxsize=1)
def _names() -> tuple[dict[str, str], dict[str, str], int]:
    """Other name -> name, those of one word among them, and the most words that a name has, all as `_named` sees them.

    Names of one word are replaced within the longer names first: with "renal" for "kidney", "acute renal failure" is
    also "acute kidney failure". A name stands for itself, so that no shorter one is found within it.
    """
    pairs = [(_prepared(normalise(other)), _prepared(normalise(name))) for other, name in synonyms().items()]
    single = {other: name for other, name in pairs if " " not in other + name}
    names: dict[str, set[str]] = {}
    for pair in pairs:
        other, name = (" ".join(single.get(word, word) for word in part.split()) for part in pair)
        names.setdefault(other, set()).add(name)
        names.setdefault(name, set()).add(name)
    clear = {other: found.pop() for other, found in names.items() if len(found) == 1}
    return clear, single, max((name.count(" ") + 1 for name in clear), default=0)


def similar(one: str, other: str) -> bool:
    """Whether two normalised texts are one name but for slips; see the top of this file."""
    if _run_together(one) == _run_together(other) != "":
        return True
    # Slips spare the first four letters: most pairs are told apart here.
    if _beginnings(one) != _beginnings(other) or negated(one) != negated(other) or not one or not other:
        return False
    if max(len(one), len(other)) > LONGEST_NAME:
        return one == other
    one, other = (_ARTICLE.sub("", text) for text in (one, other))
    linked, other_linked = _LINKS.search(one), _LINKS.search(other)
    if linked and other_linked:
        return _slipped(_LINKS.sub(" ", one).split(), _LINKS.sub(" ", other).split()) and (
            linked[0] == other_linked[0]
        )
    if linked:
        one, other = other, one
    orders = _orders(one.split())
    return any(_slipped(_LINKS.sub(" ", form).split(), order) for form in _swapped(other) for order in orders)


@lru_cache(maxsize=16_384)
def _beginnings(text: str) -> frozenset[str]:
    return frozenset(word[:4] for word in text.split() if word not in _DROPPABLE and word not in _LINKING)


@lru_cache(maxsize=16_384)
def _run_together(text: str) -> str:
    """The letters of a name ("chicken pox", "chickenpox"); "" where a short word changes what they say."""
    words = text.split()
    clear = all(len(word) >= 3 and word.isalpha() and word != "not" for word in words)
    return _DIGRAPHS.sub("e", "".join(words)) if clear and len(text) >= 8 else ""


def _swapped(text: str) -> tuple[str, ...]:
    """A name with its parts as they stand, and for "X of Y" also "Y X"."""
    before, link, after = text.partition(match[0]) if (match := _LINKS.search(text)) else (text, "", "")
    return (text, f"{after} {before}") if link else (text,)


def _orders(words: list[str]) -> list[list[str]]:
    """The words in their order and turned round ("failure heart"). No turn makes "B pays A" of "A pays B".

    A letter in front stays there, and none comes there: "C. Anti" is not "anti C". Long texts and those that say a word
    twice are lists, whose order tells: "true, false, false" is not "false, true, false".
    """
    if len(words) > MOST_TURNED or len(set(words)) < len(words):
        return [words]
    turns = (place for place in range(len(words)) if place == 0 or min(len(words[0]), len(words[place])) > 1)
    return [words[place:] + words[:place] for place in turns]


def _slipped(words: list[str], others: list[str]) -> bool:
    """Whether two lists of words are the same but for slips, and a kind of condition that only one names."""
    words, others = ([word for word in part if word != "and"] for part in (words, others))
    if _KINDS.isdisjoint(words) != _KINDS.isdisjoint(others):
        words, others = ([word for word in part if word not in _KINDS] for part in (words, others))
        if len(words) == 1 and words[0] in _names()[1].values():
            return False  # a "heart disease" is no "heart"
    return (
        len(words) == len(others) > 0
        and any(len(word) > 1 for word in words)
        and all(one == other or _slip(one, other) for one, other in zip(words, others, strict=True))
    )


def _slip(word: str, other: str) -> bool:
    """Whether two long words differ by a plural, a mute "e", a doubled letter, "y" for "i", or two letters swapped.

    Any other letter may make another word: dysphagia and dysphasia, nitrate and nitrite, employer and employee.
    """
    short, long = sorted((word, other), key=len)
    if len(short) < 6 or short[:4] != long[:4] or not (short + long).isalpha():
        return False
    start = next(
        (place for place, pair in enumerate(zip(short, long, strict=False)) if len(set(pair)) > 1), -1
    )
    if len(long) == len(short) + 1:
        if start < 0:
            return long[-1] == "s" or long[-2:] in ("ae", "ne") or long[-1] == long[-2] != "e"
        return long[start] == long[start - 1] and short[start:] == long[start + 1 :]
    if len(long) != len(short) or start < 0:
        return False
    ends = short[start + 1 :] == long[start + 1 :]
    swapped = (
        short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    )
    # "pneumonia" for "pneumoniae", whose ending is an "e" by now.
    feminine = start == len(long) - 1 and {short[start], long[start]} == {"a", "e"}
    return (ends and {short[start], long[start]} == {"i", "y"}) or feminine or swapped


def contains(text: str, part: str) -> bool:
    """Whether a normalised text contains the normalised part as whole words."""
    return bool(part) and f" {part} " in f" {text} "


def sentences(text: str) -> str:
    """The normalised text, with " | " between sentences and at both ends."""
    return f" | {' | '.join(normalise(part) for part in _SENTENCE.split(text) if part.strip())} | "


def mentioned(text: str, names: Mapping[str, str]) -> list[str]:
    """The keys of names that a text mentions and does not deny at their last mention, in order of that mention.

    Longer names are matched and removed first: "pulmonary hypertension" does not mention "hypertension".
    """
    left, found = sentences(text), {}
    normalised = ((key, normalise(name)) for key, name in names.items())
    for key, name in sorted(normalised, key=lambda item: -len(item[1])):
        place = left.rfind(f" {name} ") if name else -1
        if place < 0:
            continue
        if not _denied(left[max(0, place - 60) : place], left[place + len(name) + 2 :][:40]):
            found[key] = place
        left = left.replace(f" {name} ", f" {chr(0) * len(name)} ")
    return sorted(found, key=lambda key: found[key])


def _denied(before: str, after: str) -> bool:
    """Whether one of the three words before it in the same sentence, or the text right after it, denies it."""
    words = before.rpartition("|")[2].split()[-3:]
    return not NEGATIONS.isdisjoint(words) or bool(_DENIED_AFTER.match(after))
