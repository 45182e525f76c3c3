"""Prints how far a judge agrees with people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.evaluation.agreement import Agreement, Share
from grandrounds.report.side_by_side import clean
from grandrounds.shares import percent, percents

SHOWN = 30


def print_agreement(console: Console, found: Agreement) -> None:
    """A row for each of the most frequent criteria, one for all verdicts, then the difference of scores."""
    if found.verdicts is not None:
        table = Table(box=SIMPLE_HEAD, show_edge=False)
        table.add_column("Criterion", overflow="fold")
        for name in ("Verdicts", "Agree", "95 % interval", "Kappa"):
            table.add_column(name, justify="right")
        for share in found.criteria[:SHOWN]:
            table.add_row(*_cells(share))
        table.add_section()
        table.add_row(*_cells(found.verdicts))
        console.print(table)
        if len(found.criteria) > SHOWN:
            console.print(f"… and {len(found.criteria) - SHOWN:,} more criteria: --json has them all.")
    console.print(
        f"Scores of {found.responses:,} responses differ by {found.score_difference:.3f} on average (0 to 1)."
    )


def _cells(share: Share) -> tuple[str | Text, ...]:
    kappa = "–" if share.kappa is None else f"{share.kappa:.2f}"
    interval = percents((share.low, share.high))
    return Text(clean(share.criterion)), f"{share.count:,}", percent(share.accuracy), interval, kappa
