"""Rendering and parsing of `<reasoning>…</reasoning><answer>…</answer>`.

What is tolerated: white space inside and around tags, and tags in any case. What is not is named as a defect. An
answer is only what stands inside answer tags; it is never guessed from other text. Where several answers are
given, the last one counts, and the repetition is a defect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from grandrounds.response.outline import Outline, parse_outline


class Defect(StrEnum):
    """What is wrong with the form of a response."""

    text_outside_tags = "text_outside_tags"
    reasoning_missing = "reasoning_missing"
    reasoning_empty = "reasoning_empty"
    reasoning_repeated = "reasoning_repeated"
    answer_missing = "answer_missing"
    answer_empty = "answer_empty"
    answer_repeated = "answer_repeated"
    wrong_order = "wrong_order"
    tag_unbalanced = "tag_unbalanced"
    cut_off = "cut_off"


@dataclass(frozen=True)
class Response:
    """A parsed completion.

    reasoning, answer: their text without surrounding white space; None where there is none (an empty one is "").
    defects: every defect of form, each once, in the order of `Defect`.
    text: the whole response, with what the chat template had prefilled.
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
    """One pair of tags and what is between them; offsets of the whole in the text."""

    name: str
    content: str
    start: int
    end: int


@dataclass(frozen=True)
class Grammar:
    """The names of the two tags. `Grammar("think", "answer")` reads DeepSeek's and Qwen's habit."""

    reasoning_tag: str = "reasoning"
    answer_tag: str = "answer"

    def render(self, reasoning: str | None, answer: str) -> str:
        """A well-formed response; without reasoning, the answer alone. Inverse of `parse`."""
        answered = f"<{self.answer_tag}>{answer.strip()}</{self.answer_tag}>"
        if reasoning is None:
            return answered
        return f"<{self.reasoning_tag}>\n{reasoning.strip()}\n</{self.reasoning_tag}>\n{answered}"

    def parse(self, text: str, *, prefilled: str = "", finished: bool = True) -> Response:
        """Parse a completion; never raises, takes linear time.

        prefilled: what the chat template had already opened of the response ("<think>\\n").
        finished: False for a completion that was cut off by its length.
        """
        whole = prefilled + text
        blocks, stray = self._blocks(whole)
        reasonings = [block for block in blocks if block.name == self.reasoning_tag.lower()]
        answers = [block for block in blocks if block.name == self.answer_tag.lower()]
        defects = {
            Defect.text_outside_tags: _outside(whole, blocks),
            Defect.reasoning_missing: not reasonings,
            Defect.reasoning_empty: any(not block.content for block in reasonings),
            Defect.reasoning_repeated: len(reasonings) > 1,
            Defect.answer_missing: not answers,
            Defect.answer_empty: any(not block.content for block in answers),
            Defect.answer_repeated: len(answers) > 1,
            Defect.wrong_order: bool(reasonings and answers) and answers[0].start < reasonings[-1].start,
            Defect.tag_unbalanced: stray,
            Defect.cut_off: not finished,
        }
        return Response(
            reasoning=reasonings[-1].content if reasonings else None,
            answer=answers[-1].content if answers else None,
            defects=tuple(defect for defect in Defect if defects[defect]),
            text=whole,
        )

    @cached_property
    def _tag(self) -> re.Pattern[str]:
        names = f"{re.escape(self.reasoning_tag)}|{re.escape(self.answer_tag)}"
        return re.compile(rf"<\s*(/?)\s*({names})\s*>", re.IGNORECASE)

    def _blocks(self, text: str) -> tuple[list[_Block], bool]:
        """Innermost pairs of tags in order, and whether any tag has no partner.

        A closing tag pairs with the nearest opening tag of its name that no other tag separates it from.
        """
        blocks: list[_Block] = []
        opened: re.Match[str] | None = None
        stray = False
        for tag in self._tag.finditer(text):
            closes, name = bool(tag[1]), tag[2].lower()
            if not closes:
                stray |= opened is not None
                opened = tag
            elif opened is not None and opened[2].lower() == name:
                blocks.append(
                    _Block(name, text[opened.end() : tag.start()].strip(), opened.start(), tag.end())
                )
                opened = None
            else:
                stray = True
        return blocks, stray or opened is not None


def _outside(text: str, blocks: list[_Block]) -> bool:
    """Whether anything but white space stands outside of the blocks."""
    ends = [0, *(block.end for block in blocks)]
    starts = [*(block.start for block in blocks), len(text)]
    return any(text[end:start].strip() for end, start in zip(ends, starts, strict=True))
