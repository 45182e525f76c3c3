"""Decodes a completion's tokens to text one by one, and takes them back where a repair does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

REPLACEMENT = "\ufffd"  # stands for bytes that are no character yet


@dataclass(frozen=True)
class _Mark:
    """How far decoding was after a token: tokens before `read` are in the text, which has `length` characters."""

    read: int
    length: int


class GrowingText:
    """The text of tokens that are added one by one. A character appears with the token that completes it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.tokens: list[int] = []
        self.text = ""
        self._marks: list[_Mark] = []
        # Tokens before `_read` are in the text. Those from `_before` on are decoded with a new one, for context.
        self._before = self._read = 0

    @property
    def ends(self) -> list[int]:
        """For each token, the length of the text once it was added."""
        return [mark.length for mark in self._marks]

    def add(self, token: int, *, last: bool = False) -> None:
        """Add a token. last: bytes that are no character appear too, as U+FFFD."""
        self.tokens.append(token)
        context = self._decoded(self.tokens[self._before : self._read])
        text = self._decoded(self.tokens[self._before :])
        if len(text) > len(context) and (last or not text.endswith(REPLACEMENT)):
            self.text += text[len(context) :]
            self._before, self._read = self._read, len(self.tokens)
        self._marks.append(_Mark(self._read, len(self.text)))

    def within(self, length: int) -> int:
        """The most tokens whose text is complete and not longer than this."""
        fitting = (
            count
            for count, mark in enumerate(self._marks, start=1)
            if mark.read == count and mark.length <= length
        )
        return max(fitting, default=0)

    def keep(self, count: int) -> None:
        """Take back all tokens but the first `count`."""
        del self.tokens[count:], self._marks[count:]
        mark = self._marks[-1] if self._marks else _Mark(0, 0)
        self.text, self._read, self._before = self.text[: mark.length], mark.read, 0

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)) if tokens else ""


def continuation(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that follows others. A tokenizer that puts a space before the first word does not here."""
    line, both = (tokenizer.encode(before, add_special_tokens=False) for before in ("\n", f"\n{text}"))
    apart = (
        both[: len(line)] == line
    )  # not where line break and text share a token; no space is put there either
    return list(both[len(line) :] if apart else tokenizer.encode(text, add_special_tokens=False))
