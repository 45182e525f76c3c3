"""Copies of cases: duplicates, and test cases that are contained in training cases."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from grandrounds.types import Case

GRAM = 8
# An 8-gram in more training cases than this is a common phrase ("which of the following is the most likely …").
COMMONPLACE = 20
SUSPICIOUS = 0.5
MOST_PAIRS = 10
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """A case and a similar one. containment: the share of the case's 8-grams that the other case also has.

    shared: the longest run of words in both; empty for exact copies.
    """

    case: str
    other: str
    containment: float
    shared: str = ""


@dataclass(frozen=True)
class Leakage:
    """Test cases leaked by training cases: exact copies, and cases with an 8-gram containment of at least 0.5.

    pairs: the worst of both kinds. compared: the number of test cases long enough to have an 8-gram.
    """

    exact: int
    contained: int
    compared: int
    pairs: tuple[Overlap, ...]


def asked_text(case: Case) -> str:
    """Context and question, without the options."""
    question = case.question
    asked = question if isinstance(question, str) else "\n".join(message.content for message in question)
    return "\n".join((*case.context, asked))


def content(case: Case) -> Hashable:
    """Equal for copies: the gold answer with the facts, or without facts with the words in order."""
    gold = case.gold.text.casefold()
    if case.facts:
        return gold, frozenset(fact.casefold() for fact in case.facts), ()
    return gold, frozenset(), tuple(_words(asked_text(case)))


def duplicates(cases: Iterable[Case]) -> list[Overlap]:
    """Each case that copies an earlier one, with the first such case."""
    first: dict[Hashable, str] = {}
    pairs = []
    for case in cases:
        earlier = first.setdefault(content(case), case.id)
        if earlier != case.id:
            pairs.append(Overlap(case.id, earlier, 1.0))
    return pairs


def leakage(train: Sequence[Case], test: Sequence[Case]) -> Leakage:
    """Compare each test case with every training case by an index of 8-grams."""
    copies = {content(case): case.id for case in reversed(train)}
    exact = [Overlap(case.id, copies[content(case)], 1.0) for case in test if content(case) in copies]
    index: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(train):
        for gram in set(_grams(_words(asked_text(case)))):
            if len(index[gram]) <= COMMONPLACE:
                index[gram].append(number)
    compared, contained = 0, []
    for case in test:
        grams = set(_grams(_words(asked_text(case))))
        compared += bool(grams)
        shared = Counter(
            number for gram in grams if len(found := index.get(gram, ())) <= COMMONPLACE for number in found
        )
        for number, count in shared.most_common(1):
            if count / len(grams) >= SUSPICIOUS:
                contained.append(_pair(case, train[number], count / len(grams)))
    seen = {pair.case for pair in exact}
    worst = sorted((pair for pair in contained if pair.case not in seen), key=lambda pair: -pair.containment)
    return Leakage(len(exact), len(contained), compared, (*exact, *worst)[:MOST_PAIRS])


def _pair(case: Case, other: Case, containment: float) -> Overlap:
    words, grams = _words(asked_text(case)), set(_grams(_words(asked_text(other))))
    best, run = (0, 0), 0
    for start, gram in enumerate(_grams(words)):
        run = run + 1 if gram in grams else 0
        best = max(best, (run, start))
    length, last = best
    return Overlap(case.id, other.id, round(containment, 3), " ".join(words[last - length + 1 : last + GRAM]))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def _grams(words: Sequence[str]) -> list[str]:
    return [" ".join(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)]
