"""Progress in a terminal: a panel for a run, a bar for what is counted in cases."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise, zip_longest

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from grandrounds.recipe import Recipe
from grandrounds.report.prose import print_prose
from grandrounds.shares import percent
from grandrounds.training.course import Part
from grandrounds.training.progress import STOPPING, MetricsRow, PlainProgress, components, number, readings
from grandrounds.training.whole import Timed, Whole

SPARKS, BAR_WIDTH = "▁▂▃▄▅▆▇█", 14


def run_progress(console: Console | None = None, part: Part | None = None) -> PlainProgress:
    """The panel where the console is a terminal, else plain lines."""
    console = console or Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return Panel(console, part)
    return PlainProgress(part)


@contextmanager
def counted(
    what: str, whole: Whole | None = None, stage: str = "", times: int = 1
) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that moves one bar in a terminal, and elsewhere prints a line for every tenth.

    It counts to the total `times` times, which is the stage of the whole command; without one, the whole itself.
    The first call, with 0 done, comes when all is prepared.
    """
    whole, stage = (whole, stage) if whole is not None else (Whole({what: 1.0}, prepared=True), what)
    finished, last, tenths = 0, 0, 0
    with _bar(what) as show:

        def move(done: int, total: int) -> None:
            nonlocal finished, last, tenths
            finished, last = finished + (done < last), done
            share = (finished + done / total) / times
            whole.reach(stage, share)
            many = f"{finished * total + done:,} of {times * total:,}"
            show(share, many, whole.words if whole.share < 1 else "", int(10 * share) > tenths)
            tenths = int(10 * share)

        yield move


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float, str, str, bool], None]]:
    """A callback (share, "3 of 8", time left, whether it is worth a line) that draws or prints, on stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal or console.is_dumb_terminal:
        console.print(f"{what} …", markup=False)

        def told(share: float, many: str, left: str, due: bool) -> None:
            if due:
                text = f"{what}: {many} ({percent(share, 0)})"
                console.print(", ".join(filter(None, (text, left))), markup=False)

        yield told
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[left]}"),
    )
    # What is printed meanwhile goes above the bar, unless it goes to a file.
    to_bar = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=to_bar) as bar:
        task = bar.add_task(what, total=1.0, left="")

        def drawn(share: float, many: str, left: str, due: bool) -> None:
            told = ", ".join(filter(None, (percent(share, 0), left)))
            bar.update(task, description=f"{what}: {many}", completed=share, left=told)

        yield drawn


class Panel(PlainProgress):
    """One bar over the whole, what is done now, figures and rewards, redrawn in place; at least 60 columns wide."""

    def __init__(self, console: Console, part: Part | None = None) -> None:
        super().__init__(part)
        self._doing, self._stage = "preparing", ""
        self._rewards: deque[float] = deque(maxlen=400)
        self._below: Sequence[RenderableType] = ()
        self._stopping = False
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._shown)

    def __enter__(self) -> Panel:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def planned(self, recipe: Recipe, step: int, rounds: int, timed: Mapping[str, Timed]) -> None:
        super().planned(recipe, step, rounds, timed)
        steps = recipe.sft.steps
        if step < steps:
            self._stage = f"warm-up {step}/{steps}"
        elif recipe.rounds:
            self._stage = f"round {rounds}/{recipe.rounds}"

    def doing(self, what: str) -> None:
        self._doing = what

    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None:
        if self._course is not None:
            self._course.step(step)
        loss, rate = number(metrics.get("loss")), number(metrics.get("learning_rate"))
        self._show(f"warm-up {step}/{steps}", _table([("loss", loss)], [("learning rate", rate)]))
        if step == steps and self._course is not None and (rounds := self._course.recipe.rounds):
            self._stage = f"round 0/{rounds}"

    def round(self, done: int, rounds: int, row: MetricsRow) -> None:
        if self._course is not None:
            self._course.round(done)
        self._rewards.append(float(row.get("reward") or 0.0))
        rewards = [("reward", row.get("reward"))] + [(f"· {name}", value) for name, value in components(row)]
        curve = Text(f"reward {sparkline(self._rewards, 40)}", style="dim")
        table = _table([(name, number(value)) for name, value in rewards], readings(row))
        self._show(f"round {done}/{rounds}", table, curve)

    def stopping(self) -> None:
        # Only noted: whatever else is written would be drawn over.
        self._stopping = True

    def finished(self, text: str) -> None:
        self._stopping = False
        self._live.stop()
        super().finished(text)

    def _show(self, stage: str, *below: RenderableType) -> None:
        self._stage, self._below, self._doing = stage, below, ""

    def _shown(self) -> RenderableType:
        parts: list[RenderableType] = [self._bar()] if self._stage else []
        if self._doing:
            parts.append(Text(f"{self._doing[0].upper()}{self._doing[1:]} …", style="dim"))
        parts.extend(self._below)
        if self._stopping:
            parts.append(Text(STOPPING, style="bold yellow"))
        return Group(*parts)

    def _bar(self) -> RenderableType:
        """The stage, the share of the whole, and the time left of it."""
        if self._course is None:
            return Text(self._stage, style="bold")
        whole, row = self._course.whole, Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=whole.share, width=BAR_WIDTH)
        row.add_row(Text(self._stage, style="bold"), bar, f"{percent(whole.share, 0)}", self._left())
        return row

    def _print(self, *parts: str) -> None:
        text = "  ".join(part for part in parts if part)
        print_prose(self._live.console, text)


def sparkline(values: Sequence[float], width: int) -> str:
    """The finite values as at most `width` characters, each the mean of as many values, lowest to highest."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    width = min(width, len(finite))
    edges = [round(place * len(finite) / width) for place in range(width + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(SPARKS[min(len(SPARKS) - 1, int((mean - low) / span * len(SPARKS)))] for mean in means)


def _table(left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column(justify="right", min_width=8, no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", min_width=8, no_wrap=True)
    for one, other in zip_longest(left, right, fillvalue=("", "")):
        table.add_row(*one, *other)
    return table
