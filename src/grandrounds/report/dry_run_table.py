"""Prints a dry run of rewards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.report.prose import print_prose
from grandrounds.report.side_by_side import clean
from grandrounds.rewards.dry_run import DryRun

# Characters: of a response's name and of a component's, before they are broken, and between columns.
_RESPONSE, _NAME, _PADDING = 20, 11, 3


def print_dry_run(console: Console, result: DryRun) -> None:
    """A row for each way to respond, then what is wrong, then cases that their own answer does not satisfy."""
    for names in _fitting(list(result.rows[0].components), console.width):
        console.print(_table(result, names))
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


def _table(result: DryRun, names: Sequence[str]) -> Table:
    """Each way to respond, its reward, and these components of it."""
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column("", width=1)
    table.add_column("Response", min_width=_RESPONSE, overflow="fold")
    for name in ("reward", *names):
        width = _width(name)
        table.add_column(clean(name), justify="right", min_width=width, max_width=width, overflow="fold")
    for row in result.rows:
        scores = [row.components[name] for name in names]
        mark = Text("!", style="red") if row.fails else Text("?" if row.verdict else "", style="yellow")
        shown = ["–" if score is None else f"{score:.2f}" for score in scores]
        table.add_row(mark, row.name, f"{row.reward:.2f}", *shown)
    return table


def _width(name: str) -> int:
    return max(6, min(len(name), _NAME))


def _fitting(names: Sequence[str], width: int) -> Iterator[list[str]]:
    """The components, as many at a time as fit beside the responses: rich leaves out columns that do not."""
    room = width - (1 + _RESPONSE + _width("reward") + 3 * _PADDING)
    part: list[str] = []
    for name in names:
        if part and sum(_width(one) + _PADDING for one in [*part, name]) > room:
            yield part
            part = []
        part.append(name)
    yield part
