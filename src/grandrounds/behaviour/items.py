"""The items of a case's text, its single findings: what can be cited, removed or replaced.

Noted: losing weight, productive cough. The notes say: no swollen ankles. Which diagnosis is most likely?
       ^^^^^^^^^^^^^  ^^^^^^^^^^^^^^^^                  ^^^^^^^^^^^^^^^^^
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from grandrounds.behaviour.trace import Sentence, Span, content_words, sentences

# Between items of a sentence: a comma or semicolon, not that of "1,200".
_BETWEEN = re.compile(r"[,;](?=\s)")
# What introduces a list: "Noted: ", "Asked further, the patient mentions: ".
_LEAD = re.compile(r"^[^;:]{1,60}:\s+")
# What introduces a sentence, before its first comma: "However", "On direct questioning".
_OPENING = re.compile(
    r"^(?:however|moreover|also|then|today|otherwise|(?:on|of|in|at|by|for|to|upon|asked)\b[^,;:]{0,25}),\s+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Item:
    """A finding as the case words it. span: its characters. sentence: those of its sentence."""

    text: str
    span: Span
    sentence: Span


def items(text: str) -> list[Item]:
    """The items of all sentences that ask nothing, in order."""
    return [item for sentence in sentences(text) if not _asks(sentence) for item in _of_sentence(sentence)]


def stated(text: str) -> list[Item]:
    """Whole sentences that ask nothing, as items."""
    return [Item(one.text, one.span, one.span) for one in sentences(text) if not _asks(one)]


def without(text: str, item: Item) -> str:
    """The text without the item: with one of the commas beside it, or with its sentence if nothing else is in that."""
    (start, end), (first, last) = item.span, item.sentence
    begin = first + _lead(text[first:last])
    alone = not text[begin:start].strip() and not text[end:last].strip(" .!;,")
    if alone:
        return _tidy(text[:first], text[last:])
    if text[begin:start].rstrip().endswith((",", ";")):
        start = len(text[:start].rstrip()) - 1
    else:
        end += len(text[end:last]) - len(text[end:last].lstrip(" ,;"))
    return text[:start] + text[end:]


def instead(text: str, item: Item, other: str) -> str:
    """The text with another finding in the item's place."""
    start, end = item.span
    if text[start:end][:1].isupper() and start == item.sentence[0]:
        other = other[:1].upper() + other[1:]
    return text[:start] + other + text[end:]


def _lead(sentence: str) -> int:
    """The characters of a sentence that only introduce its findings."""
    lead = _LEAD.match(sentence) or _OPENING.match(sentence)
    return lead.end() if lead else 0


def _asks(sentence: Sentence) -> bool:
    return sentence.text.endswith("?")


def _of_sentence(sentence: Sentence) -> list[Item]:
    start = _lead(sentence.text)
    ends = [match.start() for match in _BETWEEN.finditer(sentence.text, start)]
    found = []
    for end in (*ends, len(sentence.text)):
        piece = sentence.text[start:end]
        text = piece.strip().rstrip(".!")
        begin = sentence.start + start + len(piece) - len(piece.lstrip())
        if content_words(text):
            found.append(Item(text, (begin, begin + len(text)), sentence.span))
        start = end + 1
    return found


def _tidy(before: str, after: str) -> str:
    return f"{before.rstrip()} {after.lstrip()}".strip() if before.strip() else after.lstrip()
