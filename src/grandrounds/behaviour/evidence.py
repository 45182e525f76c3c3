"""Evidence cited: facts of the case that the reasoning names.

Where the case's facts are known, a fact is cited where the reasoning has its words in order. Otherwise the facts are
what the case's text says: each number, and each group of words between commas, prepositions and verbs like "is". A
number is cited where it occurs, a group by a sentence with two thirds of its words that denies what the group denies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from grandrounds.behaviour.items import items
from grandrounds.behaviour.trace import (
    LITTLE,
    WORD,
    Sentence,
    Span,
    Trace,
    content_words,
    merged,
    stem,
)

# One fact is in nearly every text that keeps to its subject; two are evidence.
AT_LEAST = 2
_BETWEEN = re.compile(
    r"[,;:.!?()\n]+(?=\s|$)|\b(?:and|or|but|of|in|on|at|by|to|for|with|from|that|who|which|as|because|since|after|before"
    r"|is|are|was|were|has|have|had|does|did)\b|(?=\b(?:no|not|without)\b)",
    re.IGNORECASE,
)
_SPACES = str.maketrans("-\n", "  ")
_DENIES = re.compile(
    r"\b(?:no|not|without|never|denie[sd]|absent|absence|lacks?|neither|nor)\b|n't\b", re.IGNORECASE
)


@dataclass(frozen=True)
class _Fact:
    """A number, or words that belong together. denied: "no fever"."""

    words: frozenset[str]
    denied: bool

    def named_in(self, words: frozenset[str], denying: bool) -> bool:
        """Whether a sentence with these words names it."""
        return 3 * len(self.words & words) >= 2 * len(self.words) and (denying or not self.denied)


def evidence(trace: Trace) -> tuple[Span, ...]:
    """Where facts of the case are named, if at least two different ones are."""
    known = cited_facts(trace)
    if len(known) < AT_LEAST:
        return _told(trace)
    return merged(span for spans in known.values() for span in spans)


def cited_facts(trace: Trace) -> Mapping[str, tuple[Span, ...]]:
    """Each known fact that the reasoning names, and where."""
    text = _plain(trace.text)
    found = {fact: tuple(_places(_plain(fact), text)) for fact in trace.facts}
    return {fact: spans for fact, spans in found.items() if spans}


def says(text: str, facts: Iterable[str]) -> bool:
    """Whether a part of the case says one of these known facts."""
    plain = _plain(text)
    return any(True for fact in facts for _ in _places(_plain(fact), plain))


def names(trace: Trace, text: str) -> bool:
    """Whether the reasoning names anything that a part of the case says."""
    read = _read(trace.sentences)
    return any(fact.named_in(words, denying) for fact in _facts([text]) for _, words, denying in read)


def _told(trace: Trace) -> tuple[Span, ...]:
    """The sentences that name facts of the case's text, if they name at least two."""
    telling = [item.text for item in items(trace.question)] or [trace.question]
    read = _read(trace.sentences)
    named = {
        fact: [one.span for one, words, denying in read if fact.named_in(words, denying)]
        for fact in _facts(telling)
    }
    found = [spans for spans in named.values() if spans]
    return merged(span for spans in found for span in spans) if len(found) >= AT_LEAST else ()


def _facts(texts: Iterable[str]) -> frozenset[_Fact]:
    found = set()
    for text in texts:
        for piece in _BETWEEN.split(text):
            all_words = [word[0].lower() for word in WORD.finditer(piece)]
            found |= {_Fact(frozenset({word}), False) for word in all_words if word[0].isdigit()}
            words = frozenset(stem(word) for word in all_words if word[0].isalpha() and word not in LITTLE)
            if words:
                found.add(_Fact(words, bool(_DENIES.match(piece.strip()))))
    return frozenset(found)


def _read(listed: Iterable[Sentence]) -> list[tuple[Sentence, frozenset[str], bool]]:
    """Each sentence with its words that carry meaning, and whether it denies something."""
    return [(one, content_words(one.text), bool(_DENIES.search(one.text))) for one in listed]


def _plain(text: str) -> str:
    """In lower case, with hyphens and line breaks as spaces; as long as before."""
    lower = text.lower()
    return (lower if len(lower) == len(text) else text).translate(_SPACES)


def _places(fact: str, text: str) -> Iterator[Span]:
    """Where a plain text has the fact as whole words, and not denied. Quicker than a pattern."""
    start = text.find(fact) if fact.strip() else -1
    while start >= 0:
        end = start + len(fact)
        whole = not text[max(0, start - 1) : start].isalnum() and not text[end : end + 1].isalnum()
        denied = text[max(0, start - 3) : start] == "no " and not fact.startswith("no ")
        if whole and not denied:
            yield start, end
        start = text.find(fact, end)
