"""A reasoning with what it is about, cut into sentences and words that know where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from grandrounds.types import Case

# Characters of a text: from the first to the one after the last.
Span = tuple[int, int]

_END = re.compile(r"\n|[?]+|[.!]+(?=\s|$)")
_AFTER_WORD = re.compile(r"[a-z0-9)\]%\"'][a-z0-9)\]%\"']$")
_AFTER_DIGIT = re.compile(r"(?:^|\W)\d$")
WORD = re.compile(r"\d+(?:[.,:/]\d+)*|[a-z]+(?:'[a-z]+)?", re.IGNORECASE)
# Words that carry no meaning by themselves.
LITTLE = frozenset(
    re.findall(
        r"\w+",
        """a an the of and or in on at by to for with from as is are was were be been has have had his her their its it
        he she they this that these those there than then so but if not no do does did can will would should could may
        might what which who when where how why i we you my your our me us him them about into out up over very more
        most after before during while also some any all each other only just too""",
    )
)
_Y = re.compile(r"(?<=\w\w)ie[sd]$")
_ENDINGS = re.compile(r"(?:ing|ed|es|s|ly)$")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text and where it stands there."""

    text: str
    start: int

    @property
    def span(self) -> Span:
        """Its characters in the text."""
        return self.start, self.start + len(self.text)


@dataclass(frozen=True)
class Trace:
    """What the detectors read.

    text: the reasoning. question: the case in words, with its context. facts: those of the case, where they are known.
    options: the texts of the case's options.
    """

    text: str
    question: str = ""
    facts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @cached_property
    def lower(self) -> str:
        """The reasoning in lower case."""
        return self.text.lower()

    def sentences_with(self, hints: tuple[str, ...]) -> Iterator[tuple[int, Sentence]]:
        """The sentences with one of these texts in lower case, and their numbers: a quick look before slow patterns."""
        here = [hint for hint in hints if hint in self.lower]
        if here:
            for number, sentence in enumerate(self.sentences):
                lower = sentence.text.lower()
                if any(hint in lower for hint in here):
                    yield number, sentence

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """The sentences of the reasoning, in order."""
        return tuple(sentences(self.text))


def trace_of(reasoning: str, case: Case) -> Trace:
    """The trace of a case's reasoning."""
    return Trace(reasoning, "\n".join(texts_of(case)), case.facts, tuple(case.options.values()))


def texts_of(case: Case) -> tuple[str, ...]:
    """What the case says: its passages, then its question, or the user's messages of a conversation."""
    if isinstance(case.question, str):
        return (*case.context, case.question)
    said = (message.content for message in case.question if message.role == "user")
    return (*case.context, *said)


def sentences(text: str) -> Iterator[Sentence]:
    """The text's sentences without surrounding white space; an end mark belongs to its sentence."""
    start = 0
    for end in (*(match.end() for match in _END.finditer(text) if _ends(text, match)), len(text)):
        piece = text[start:end]
        stripped = piece.strip()
        if stripped:
            yield Sentence(stripped, start + len(piece) - len(piece.lstrip()))
        start = end


def _ends(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark ends a sentence: not that of "3.5", "e.g.", "B. Gout" or "1. First"."""
    if mark[0][0] not in ".!":
        return True
    before, after = text[max(0, mark.start() - 2) : mark.start()], text[mark.end() : mark.end() + 2]
    if _AFTER_WORD.search(before):
        return True
    return bool(_AFTER_DIGIT.search(before)) and (not after.strip() or after[1:].isupper())


def stem(word: str) -> str:
    """A word without case and the commonest endings, so that "spreads" is "spreading"."""
    word = word.lower()
    short = _ENDINGS.sub("", _Y.sub("y", word))
    return short if len(short) > 2 else word


def content_words(text: str) -> frozenset[str]:
    """The stems of the words that carry meaning, and the numbers."""
    words = (match[0] for match in WORD.finditer(text))
    return frozenset(stem(word) for word in words if word.lower() not in LITTLE)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans in order, overlapping ones joined."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)
