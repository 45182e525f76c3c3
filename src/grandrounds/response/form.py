"""Follows a response while it is written, and says what must come next where it leaves the form.

`Grammar.parse` reads a response that is complete. `FormReader` reads one that grows by a token at a time: which part it
is in, what of the reasoning and the answer is certain, and how a response that leaves the form is brought back to it.
What it lets through, `Grammar.parse` reads without a defect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from grandrounds.response.grammar import Defect, Grammar, Response


class Part(Enum):
    """The parts of a response, in order. The gaps hold white space alone."""

    before = "before the reasoning"
    reasoning = "in the reasoning"
    between = "before the answer"
    answer = "in the answer"
    done = "after the answer"


@dataclass(frozen=True)
class Repair:
    """How a response returns to the form: its first `keep` characters stay, and `then` follows.

    then is None where nothing may be written in the model's place, since a part is still empty: the newest token
    must be another one.
    """

    keep: int
    then: str | None


@dataclass(frozen=True)
class Form:
    """The form that a policy answers in. reasoning: whether a reasoning comes before the answer."""

    grammar: Grammar
    reasoning: bool = True

    def defects(self, response: Response) -> tuple[Defect, ...]:
        """The response's defects, without those that belong to the form."""
        allowed = () if self.reasoning else (Defect.reasoning_missing,)
        return tuple(defect for defect in response.defects if defect not in allowed)


class FormReader:
    """Reads a response that grows, and that may be cut back by a repair.

    prefilled: what the chat template had opened. Offsets count from the start of the response without it.
    """

    def __init__(self, form: Form, prefilled: str = "") -> None:
        self._form, self._tag = form, form.grammar.tag
        self._opened = form.grammar.opened(prefilled)
        names = (form.grammar.reasoning_tag, form.grammar.answer_tag)
        self._open = {Part.before: f"<{names[0]}>\n", Part.between: f"<{names[1]}>"}
        self._close = {Part.reasoning: f"</{names[0]}>\n", Part.answer: f"</{names[1]}>"}
        self._names = {Part.reasoning: names[0].lower(), Part.answer: names[1].lower()}
        self._read = ""
        self._begin()
        self.read("")

    def _begin(self) -> None:
        self.part = Part.before if self._form.reasoning else Part.between
        self._start = self._from = 0  # of the part; and from where on it has not been searched for tags
        self._spans: dict[Part, tuple[int, int]] = {}

    def read(self, text: str) -> Repair | None:
        """Read on. text: the whole response so far. Returns how to go on where it has left the form."""
        text = self._opened + text
        if not text.startswith(self._read):
            self._begin()
        self._read = text
        while self.part is not Part.done:
            found = self._gap(text) if self.part in self._open else self._content(text)
            if found is not True:
                return found
        return None

    def ended(self) -> Repair | None:
        """How to go on where the response has ended; None where it is complete. Closes the part that is open."""
        if self.part is Part.done:
            return None
        keep = self._certain()
        if self.part in self._open:
            return self._repair(self._first(), self._open[self.part])
        return self._closing(keep)

    def reasoning(self) -> str:
        """The reasoning as far as it is certain, without surrounding white space."""
        return self._text(Part.reasoning)

    def answer(self) -> str:
        """The answer as far as it is certain, without surrounding white space."""
        return self._text(Part.answer)

    def answer_span(self) -> tuple[int, int] | None:
        """Where the answer's certain text begins and ends; None before it begins."""
        span = self._span(Part.answer)
        return span and (span[0] - len(self._opened), span[1] - len(self._opened))

    def longest_closing(self) -> str:
        """What must still be written, at most, besides the content of the answer."""
        parts = {Part.before: 0, Part.reasoning: 1, Part.between: 2, Part.answer: 3, Part.done: 4}
        texts = [self._open[Part.before], "\n" + self._close[Part.reasoning], self._open[Part.between]]
        return "".join([*texts, self._close[Part.answer]][parts[self.part] :])

    def _text(self, part: Part) -> str:
        span = self._span(part)
        return self._read[slice(*span)].strip() if span else ""

    def _span(self, part: Part) -> tuple[int, int] | None:
        return (self._start, self._certain()) if self.part is part else self._spans.get(part)

    def _certain(self) -> int:
        """Where the text ends that cannot become part of a tag."""
        last = self._read.rfind("<", self._start)
        return last if last >= 0 and self._may_become_tag(self._read[last:]) else len(self._read)

    def _may_become_tag(self, text: str) -> bool:
        return any(_begins(text, name, slash) for name in self._names.values() for slash in ("", "/"))

    def _gap(self, text: str) -> Repair | Literal[True] | None:
        """A gap: white space, then the tag that opens the next part. True where the part has ended."""
        first = self._first()
        if first == len(text):
            return None
        following = Part.reasoning if self.part is Part.before else Part.answer
        tag = self._tag.match(text, first)
        if tag and not tag[1] and tag[2].lower() == self._names[following]:
            self.part, self._start, self._from = following, tag.end(), tag.end()
            return True
        if not tag and _begins(text[first:], self._names[following], ""):
            return None
        return self._repair(first, self._open[self.part])

    def _content(self, text: str) -> Repair | Literal[True] | None:
        """A part between tags. Any tag but the one that closes it leaves the form."""
        tag = self._tag.search(text, self._from)
        if tag is None:
            self._from = self._certain()
            return None
        if tag[1] and tag[2].lower() == self._names[self.part] and text[self._start : tag.start()].strip():
            self._spans[self.part] = self._start, tag.start()
            self.part = Part.between if self.part is Part.reasoning else Part.done
            self._start = self._from = tag.end()
            return True
        return self._closing(tag.start())

    def _closing(self, keep: int) -> Repair:
        """Ends the part that is open, and begins the next one."""
        content = self._read[self._start : keep]
        if not content.strip():
            return self._repair(keep, None)
        if self.part is Part.answer:
            return self._repair(keep, self._close[Part.answer])
        line = "" if content.endswith("\n") else "\n"
        return self._repair(keep, line + self._close[Part.reasoning] + self._open[Part.between])

    def _repair(self, keep: int, then: str | None) -> Repair:
        return Repair(max(0, keep - len(self._opened)), then)

    def _first(self) -> int:
        """Where the gap's first character that is no white space stands."""
        rest = self._read[self._start :]
        return self._start + len(rest) - len(rest.lstrip())

    @property
    def end(self) -> int:
        """Where a complete response ends."""
        return self._start - len(self._opened)


_SPACE = re.compile(r"\s*")


def _begins(text: str, name: str, slash: str) -> bool:
    """Whether the text, which begins with "<", may become this tag. White space may stand around slash and name."""
    at = 1
    for piece in (slash, name, ">"):
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        there = text[at : at + len(piece)].lower()
        if there != piece[: len(there)]:
            return False
        if len(there) < len(piece):
            return True
        at += len(piece)
    return False  # it is the tag already
