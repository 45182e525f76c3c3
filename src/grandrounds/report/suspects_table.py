"""Prints suspect gold labels."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.evaluation.suspects import Suspect
from grandrounds.report.side_by_side import clean


def print_suspects(console: Console, found: Sequence[Suspect], shown: int) -> None:
    """A row for each of the first ones, and what the first of all reasons."""
    if not found:
        console.print("No case is answered otherwise than its gold answer by all completions of a group.")
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in ("Case", "Gold answer", "All completions say"):
        table.add_column(name, overflow="fold")
    table.add_column("Times", justify="right")
    for one in found[:shown]:
        table.add_row(clean(one.case_id), clean(one.gold), clean(one.answer), f"{one.times} of {one.asked}")
    console.print(table)
    if len(found) > shown:
        console.print(f"… and {len(found) - shown:,} more.")
    console.print(Text("\nThe first one's reasoning", style="bold"))
    console.print(Text(clean(found[0].reasoning)), soft_wrap=True)
    console.print(
        "\nEither the policy has learned something wrong, or the gold answer is wrong: look at them."
    )
