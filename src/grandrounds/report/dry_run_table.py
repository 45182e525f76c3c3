"""Prints a dry run of rewards."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.report.prose import print_prose
from grandrounds.report.side_by_side import clean
from grandrounds.rewards.dry_run import DryRun


def print_dry_run(console: Console, result: DryRun) -> None:
    """A row for each way to respond, then what is wrong, then cases that their own answer does not satisfy."""
    names = list(result.rows[0].components)
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column("", width=1)
    table.add_column("Response", min_width=26, overflow="fold")
    for name in ("reward", *names):
        table.add_column(clean(name), justify="right", min_width=6, overflow="fold")
    for row in result.rows:
        scores = ["–" if score is None else f"{score:.2f}" for score in row.components.values()]
        mark = Text("!", style="red") if row.fails else Text("?" if row.verdict else "", style="yellow")
        table.add_row(mark, row.name, f"{row.reward:.2f}", *scores)
    console.print(table)
    for row in filter(lambda row: row.verdict, result.rows):
        style = "red" if row.fails else "yellow"
        print_prose(console, f"{'!' if row.fails else '?'} {row.name}: {row.verdict}", body=style)
    for finding in result.findings:
        print_prose(console, f"Fails: {finding}.", body="red")
    for line in result.gold_below:
        console.print(Text(f"  {clean(line)}"), soft_wrap=True)
    pays = sum(row.fails for row in result.rows)
    if pays:
        console.print(Text(f"Fails: {pays} ways to be rewarded without being good pay.", style="red"))
    if result.passed:
        console.print("Passed: being right pays, and no attack does.")
