"""Stop strings, which end a completion wherever token boundaries fall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Looks for strings in the decoded text. Special tokens are not part of the text."""

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._tokenizer, self._strings = tokenizer, strings
        self._special = frozenset(tokenizer.all_special_ids)
        # Any token that is not special stands for at least one byte. One token more, since a decoder may strip the
        # first token's space.
        self._tail = max(len(string.encode()) for string in strings) + 1
        self._last: dict[int, bool] = {}

    def may_end(self, token: int) -> bool:
        """Whether a string may be complete with this token: its text has a string's last character, or part of it."""
        if token not in self._last:
            # Decoded twice in a row, since the space before the first may be stripped.
            text = self._text([token, token])
            self._last[token] = "\ufffd" in text or any(string[-1] in text for string in self._strings)
        return self._last[token]

    def found(self, tokens: Sequence[int]) -> bool:
        """Whether the text contains one of the strings. Assumes that it did not without the last token."""
        spoken = [token for token in tokens if token not in self._special]
        # Decoding the last few tokens nearly always suffices. Where a string is found in them, the whole text decides.
        return all(self._in(self._text(part)) for part in (spoken[-self._tail :], tokens))

    def cut(self, text: str) -> str:
        """The text up to and including the string that was complete first."""
        ends = [text.find(string) + len(string) for string in self._strings if string in text]
        return text[: min(ends, default=len(text))]

    def _in(self, text: str) -> bool:
        return any(string in text for string in self._strings)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
