"""Strings that end a completion, wherever its tokens' borders lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Looks for strings in what a tokenizer decodes; special tokens are no text."""

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._tokenizer, self._strings = tokenizer, strings
        self._special = frozenset(tokenizer.all_special_ids)
        # Any token but a special one stands for a byte at least; one more, since a decoder may strip the first one's.
        self._tail = max(len(string.encode()) for string in strings) + 1
        self._last: dict[int, bool] = {}

    def may_end(self, token: int) -> bool:
        """Whether a string may be complete with this token: its text has a string's last character, or half of one."""
        if token not in self._last:
            # Twice, since a space in front of the first may be stripped.
            text = self._text([token, token])
            self._last[token] = "\ufffd" in text or any(string[-1] in text for string in self._strings)
        return self._last[token]

    def found(self, tokens: Sequence[int]) -> bool:
        """Whether a completion's text contains one of the strings, given that without its last token it did not."""
        spoken = [token for token in tokens if token not in self._special]
        # Decoding a few tokens tells nearly always; where it finds something, the whole text decides.
        return all(self._in(self._text(part)) for part in (spoken[-self._tail :], tokens))

    def cut(self, text: str) -> str:
        """The text up to the end of the string that was complete first, the string included."""
        ends = [text.find(string) + len(string) for string in self._strings if string in text]
        return text[: min(ends, default=len(text))]

    def _in(self, text: str) -> bool:
        return any(string in text for string in self._strings)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
