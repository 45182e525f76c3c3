"""Whether two short texts mean the same: normalisation, abbreviations, and a cautious similarity.

Similarity ignores only one mistyped letter in a long word, word order, repeated words, and a missing "disease". It
never ignores a negation, a number, a side, or a prefix (hypo- is not hyper-).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from grandrounds.domain import abbreviations

# Characters without meaning between words. Signs with meaning (%, +, <, >, /, arrows) are kept.
_PUNCTUATION = re.compile(r"[\"'`*_(){}\[\]|~!?;:]|[.,](?!\d)|(?<!\d)[.,]")
MARKDOWN = re.compile(r"\*\*|__|`")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_HYPHEN = re.compile(r"(?<=\w)-(?=\w)|(?<!\S)-(?!\d)|-(?!\S)")
_DASHES = str.maketrans({dash: "-" for dash in "‐‑‒–—―−"} | {"’": "'", "‘": "'", "“": '"', "”": '"'})
_MARKS = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_DIGRAPHS = re.compile(r"(?<=[a-z])(?:ae|oe)|\boe(?=[a-z]{3})|\bae(?=[a-z]{3})")
_POSSESSIVE = re.compile(r"(?<=[a-z])'s\b")
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8"}
_NUMBERED = re.compile(r"\b(type|grade|stage|class|factor) (viii|vii|vi|iv|v|iii|ii|i)\b")
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
_DROPPABLE = frozenset(
    ("the", "a", "an", "of", "with", "in", "to", "due", "and", "disease", "disorder", "syndrome")
)
SIMILAR_ENOUGH = 90.0


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
    match = _ACRONYM.match(text.strip())
    if match and _stands_for(match["short"], match["long"]):
        text = match["long"]
    return normalise(_CAPITALS.sub(lambda match: abbreviations().get(match[0], match[0]), text))


def _stands_for(short: str, long: str) -> bool:
    if normalise(abbreviations().get(short.upper(), "")) == normalise(long):
        return True
    initials = "".join(word[0] for word in normalise(long).split())
    core = "".join(word[0] for word in normalise(long).split() if word not in _DROPPABLE)
    return normalise(short) in {initials, core}


def negated(text: str) -> bool:
    """Whether a normalised text denies something."""
    return not NEGATIONS.isdisjoint(text.split())


def similar(one: str, other: str) -> bool:
    """Whether two normalised texts have the same words except for slips; see the top of this file."""
    if negated(one) != negated(other):
        return False
    words, others = set(one.split()), set(other.split())
    left, right = words - others, others - words
    for word in sorted(left):
        slip = next((candidate for candidate in sorted(right) if _slip(word, candidate)), None)
        if slip is not None:
            left.discard(word)
            right.discard(slip)
    # A missing "disease" is ignored, but "disease" for "syndrome" is not: Cushing's are two conditions.
    if (left and right) or not (left | right) <= _DROPPABLE or not (words & others or words - left):
        return False
    core, other_core = (" ".join(sorted(part - _DROPPABLE)) for part in (words, others))
    return bool(core) and fuzz.ratio(core, other_core) >= SIMILAR_ENOUGH


def _slip(word: str, other: str) -> bool:
    """Whether they differ by one mistyped letter after the first four. Prefixes change meanings, endings seldom do."""
    return (
        min(len(word), len(other)) >= 6
        and word[:4] == other[:4]
        and not any(sign.isdigit() for sign in word + other)
        and OSA.distance(word, other, score_cutoff=1) <= 1
    )


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
