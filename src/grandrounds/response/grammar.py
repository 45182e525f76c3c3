"""Renders and parses `<reasoning>…</reasoning><answer>…</answer>`.

White space inside and around tags is allowed, and tags may be in any case. A tag with attributes is text, not a tag.
Every other departure from "one reasoning, then one answer, and nothing else" is a defect with a name.

An answer is only the text inside a pair of answer tags. It is never guessed from other text. Where there are several
answers, the last one counts, and the repetition is a defect. Answer tags inside a closed reasoning are a rehearsal
and not the answer.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from grandrounds.response.outline import Outline, parse_outline


class Defect(StrEnum):
    """A defect in the form of a response."""

    text_outside_tags = "text_outside_tags"
    reasoning_missing = "reasoning_missing"
    reasoning_empty = "reasoning_empty"
    reasoning_repeated = "reasoning_repeated"
    answer_missing = "answer_missing"
    answer_empty = "answer_empty"
    answer_repeated = "answer_repeated"
    wrong_order = "wrong_order"
    tag_nested = "tag_nested"
    tag_unclosed = "tag_unclosed"
    tag_unopened = "tag_unopened"
    cut_off = "cut_off"


@dataclass(frozen=True)
class Response:
    """A parsed completion.

    reasoning, answer: their text without surrounding white space; None where there is none.
    defects: every defect of form, each once, in the order of `Defect`.
    text: the whole response, including the tag that the chat template had opened.
    """

    reasoning: str | None
    answer: str | None
    defects: tuple[Defect, ...]
    text: str = field(repr=False)

    @cached_property
    def outline(self) -> Outline:
        """The structure of the reasoning; empty where there is no reasoning."""
        return parse_outline(self.reasoning or "")


@dataclass(frozen=True)
class _Block:
    """A pair of tags with the text between them. Offsets are positions in the whole text and include the tags."""

    name: str
    content: str
    start: int
    end: int


@dataclass(frozen=True)
class Grammar:
    """The names of the two tags. `Grammar("think", "answer")` reads the form that DeepSeek and Qwen use."""

    reasoning_tag: str = "reasoning"
    answer_tag: str = "answer"

    @property
    def tags(self) -> tuple[str, ...]:
        """The four tags as written."""
        return tuple(
            f"<{slash}{name}>" for name in (self.reasoning_tag, self.answer_tag) for slash in ("", "/")
        )

    def render(self, reasoning: str | None, answer: str) -> str:
        """A well-formed response, or the answer alone if reasoning is None. The inverse of `parse`."""
        answered = f"<{self.answer_tag}>{answer.strip()}</{self.answer_tag}>"
        if reasoning is None:
            return answered
        return f"<{self.reasoning_tag}>\n{reasoning.strip()}\n</{self.reasoning_tag}>\n{answered}"

    def begun(self, reasoning: str) -> str:
        """A response whose reasoning is closed and whose answer is opened: what follows is the answer."""
        return f"<{self.reasoning_tag}>\n{reasoning.strip()}\n</{self.reasoning_tag}>\n<{self.answer_tag}>"

    def parse(self, text: str, *, prefilled: str = "", finished: bool = True) -> Response:
        """Parse a completion. Never raises, and takes linear time.

        prefilled: the part of the response that the chat template had opened ("<think>\\n").
        finished: False for a completion that was cut off at the maximum length.
        """
        whole = self.opened(prefilled) + text
        blocks, unclosed, unopened = self._blocks(whole)
        reasonings = [block for block in blocks if block.name == self.reasoning_tag.lower()]
        answers = [block for block in blocks if block.name == self.answer_tag.lower()]
        rehearsed = _inside(answers, reasonings)
        answers = [block for block in answers if block.start not in rehearsed]
        defects = {
            Defect.text_outside_tags: _outside(whole, blocks),
            Defect.reasoning_missing: not reasonings,
            Defect.reasoning_empty: any(not block.content for block in reasonings),
            Defect.reasoning_repeated: len(reasonings) > 1,
            Defect.answer_missing: not answers,
            Defect.answer_empty: any(not block.content for block in answers),
            Defect.answer_repeated: len(answers) > 1,
            Defect.wrong_order: bool(reasonings and answers) and answers[0].start < reasonings[-1].end,
            Defect.tag_nested: bool(rehearsed or _inside(reasonings, answers)),
            Defect.tag_unclosed: unclosed,
            Defect.tag_unopened: unopened,
            Defect.cut_off: not finished,
        }
        return Response(
            reasoning=reasonings[-1].content if reasonings else None,
            answer=answers[-1].content if answers else None,
            defects=tuple(defect for defect in Defect if defects[defect]),
            text=whole,
        )

    def most_of_a_tag(self, text: str) -> int:
        """How often the most frequent of the four tags occurs."""
        counts = Counter((bool(tag[1]), tag[2].lower()) for tag in self.tag.finditer(text))
        return max(counts.values(), default=0)

    @cached_property
    def tag(self) -> re.Pattern[str]:
        """Finds the four tags. Group 1 is a closing tag's slash, group 2 the name."""
        # Possessive quantifiers, so that a "<" before many spaces takes linear time.
        names = f"{re.escape(self.reasoning_tag)}|{re.escape(self.answer_tag)}"
        return re.compile(rf"<\s*+(?:(/)\s*+)?({names})\s*+>", re.IGNORECASE)

    def opened(self, prefilled: str) -> str:
        """The part of a template's prefill that belongs to the response: from an unclosed tag of ours to the end.

        The rest is the template's and not the policy's: an empty "<think></think>", or other tags.
        """
        tags = list(self.tag.finditer(prefilled))
        return prefilled[tags[-1].start() :] if tags and not tags[-1][1] else ""

    def _blocks(self, text: str) -> tuple[list[_Block], bool, bool]:
        """(pairs of tags in the order of their closing, whether a tag was not closed, whether one was not opened).

        A closing tag pairs with the nearest opening tag of its name. At most one tag of each name is open at a time, so
        blocks nest at most once.
        """
        blocks: list[_Block] = []
        opened: dict[str, re.Match[str]] = {}
        unclosed = unopened = False
        for tag in self.tag.finditer(text):
            name = tag[2].lower()
            if not tag[1]:
                unclosed |= opened.pop(name, None) is not None
                opened[name] = tag
            elif name in opened:
                start = opened.pop(name)
                blocks.append(_Block(name, text[start.end() : tag.start()].strip(), start.start(), tag.end()))
                for other in [other for other, begun in opened.items() if begun.start() > start.start()]:
                    unclosed |= opened.pop(other) is not None
            else:
                unopened = True
        return blocks, unclosed or bool(opened), unopened


def _inside(inner: list[_Block], outer: list[_Block]) -> set[int]:
    """Starts of the inner blocks that lie within an outer block. Both lists must be in order and disjoint."""
    found: set[int] = set()
    waiting = iter(outer)
    around = next(waiting, None)
    for block in inner:
        while around is not None and around.end <= block.start:
            around = next(waiting, None)
        if around is not None and around.start < block.start:
            found.add(block.start)
    return found


def _outside(text: str, blocks: list[_Block]) -> bool:
    """Whether there is anything but white space outside of the blocks."""
    reached = 0
    for block in sorted(blocks, key=lambda block: block.start):
        if text[reached : block.start].strip():
            return True
        reached = max(reached, block.end)
    return bool(text[reached:].strip())
