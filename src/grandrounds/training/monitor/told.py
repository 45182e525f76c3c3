"""What the monitor has told the user of a run, read from the files that it left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
TEXTS = ("sign", "what", "cause", "hint")


@dataclass(frozen=True)
class Told:
    """A sign when it was new, or that the run was taken back. standing: whether it still stood after the last round."""

    round: int
    sign: str
    what: str
    cause: str = ""
    hint: str = ""
    standing: bool = False


def told(monitor: Sequence[Row], rolled_back: Sequence[Row] = ()) -> list[Told]:
    """In the order of the rounds, from the rows of monitor.jsonl and rolled_back.jsonl.

    Files of other versions are read, too: what is not as `Monitor` writes it is left out.
    """
    last = {finding["sign"] for finding in _findings(monitor[-1])} if monitor else set()
    new = [
        Told(number, **finding, standing=finding["sign"] in last)
        for number, row in _numbered(monitor)
        for finding in _findings(row)
        if finding["what"] and finding["sign"] in _list(row, "said")
    ]
    back = [
        Told(number, "rolled back", f"The run was taken back to round {row.get('to')}")
        for number, row in _numbered(rolled_back)
    ]
    return sorted([*new, *back], key=lambda one: one.round)


def _numbered(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """The rows that name a round, with it."""
    for row in rows:
        if isinstance(number := row.get("round"), int):
            yield number, row


def _findings(row: Row) -> Iterator[dict[str, str]]:
    """The row's findings: their texts, "" for one that is missing."""
    for finding in _list(row, "findings"):
        if isinstance(finding, Mapping):
            yield {name: text if isinstance(text := finding.get(name), str) else "" for name in TEXTS}


def _list(row: Row, name: str) -> list[Any]:
    return found if isinstance(found := row.get(name), list) else []
