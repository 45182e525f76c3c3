"""The interface of what decodes rows that requests join and leave at any step, and what must be known to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grandrounds.sampling.live_row import LiveRow, RowRequest


class RowBatch(Protocol):
    """The rows that are decoded together. Not to be used by two threads.

    rows: those that have joined, have not ended and have not left.
    """

    rows: list[LiveRow]

    def fits(self, requests: Sequence[RowRequest], *, alone: bool = False) -> bool:
        """Whether there is room for these beside the rows that are there. alone: if there were none."""
        ...

    def join(self, requests: Sequence[RowRequest]) -> list[LiveRow]:
        """Add rows of one prompt."""
        ...

    def step(self) -> None:
        """Give rows their next tokens. Rows that end with them leave; they stay readable."""
        ...

    def leave(self, rows: Sequence[LiveRow]) -> None:
        """Remove rows, ended or not. Those that are not there are ignored."""
        ...

    def recover(self) -> bool:
        """Remove all rows, after something raised. Returns whether others can be decoded."""
        ...

    def close(self) -> None:
        """Free what the batch holds."""
        ...


@dataclass(frozen=True)
class Engine:
    """What decodes the rows of one policy.

    tokenizer: the batch's own; another thread needs a copy. max_positions: the tokens of a prompt and its completion,
    at most. description: precision and device, for the user.
    """

    tokenizer: Any
    max_positions: int
    description: str
    batch: RowBatch
