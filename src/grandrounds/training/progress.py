"""What a person sees while a run goes on: a live panel in a terminal, one line per round elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from types import TracebackType
from typing import Any, Protocol, Self

from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from grandrounds.recipe import Recipe

Row = Mapping[str, Any]
# Plain output of a long run stays readable: at most about this many lines for the rounds, and for the
# warm-up.
MOST_ROUND_LINES, MOST_WARMUP_LINES = 200, 20
SPARKS = "▁▂▃▄▅▆▇█"


class Progress(Protocol):
    """What a run reports to; used as a context manager around the run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def warmup(self, step: int, steps: int, metrics: Row) -> None:
        """One SFT step of `steps` is done."""

    def round(self, row: Row) -> None:
        """One round is done; `row` is its row of metrics.jsonl."""

    def note(self, text: str) -> None:
        """Something worth a line: the policy's description, a warning, a checkpoint."""

    def finished(self, text: str) -> None:
        """The run's last words."""


class SilentProgress:
    """Shows nothing; for tests and for use as a library."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def warmup(self, step: int, steps: int, metrics: Row) -> None: ...
    def round(self, row: Row) -> None: ...
    def note(self, text: str) -> None: ...
    def finished(self, text: str) -> None: ...


def progress_for(recipe: Recipe, console: Console | None = None) -> Progress:
    """The live panel where the console is a terminal, else plain lines."""
    console = console or Console(highlight=False)
    kind = LiveProgress if console.is_terminal and not console.is_dumb_terminal else PlainProgress
    return kind(recipe, console)


class Clock:
    """Estimates the time left from the last few laps."""

    def __init__(self) -> None:
        self._laps: deque[float] = deque(maxlen=20)
        self._last = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self._laps.append(now - self._last)
        self._last = now

    def left(self, laps: int) -> str:
        """Time for so many further laps, in words; empty where none is left or none was measured yet."""
        if not self._laps or not laps:
            return ""
        return f"{duration(laps * sum(self._laps) / len(self._laps))} left"


class PlainProgress(SilentProgress):
    """One line per round; every Nth only where there would be very many."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe, self.console = recipe, console
        self.clock = Clock()
        self._phase = ""

    def warmup(self, step: int, steps: int, metrics: Row) -> None:
        self._lap("warmup")
        if _due(step, steps, MOST_WARMUP_LINES):
            left = self.clock.left(steps - step)
            self._print(f"warm-up {step}/{steps}", f"loss {number(metrics.get('loss'))}", left)

    def round(self, row: Row) -> None:
        self._lap("rounds")
        if not _due(row["round"], self.recipe.rounds, MOST_ROUND_LINES):
            return
        parts = ", ".join(f"{name} {number(value)}" for name, value in components(row))
        facts = [f"{name} {value}" for name, value in readings(row)]
        left = self.clock.left(self.recipe.rounds - row["round"])
        reward = f"reward {number(row.get('reward'))}" + (f" ({parts})" if parts else "")
        self._print(f"round {row['round']}/{self.recipe.rounds}", reward, *facts, left)

    def note(self, text: str) -> None:
        self._print(text)

    def finished(self, text: str) -> None:
        self._print(text)

    def _lap(self, phase: str) -> None:
        if phase != self._phase:
            # The clock starts at the phase's first report, so that loading and saving do not count.
            self.clock, self._phase = Clock(), phase
        else:
            self.clock.lap()

    def _print(self, *parts: str) -> None:
        self.console.print("  ".join(part for part in parts if part), soft_wrap=True, markup=False)


class LiveProgress(PlainProgress):
    """A panel that is redrawn in place; at least 60 columns wide."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        super().__init__(recipe, console)
        self.rewards: deque[float] = deque(maxlen=400)
        self.live = Live(Text("Preparing …"), console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def warmup(self, step: int, steps: int, metrics: Row) -> None:
        self._lap("warmup")
        table = _table()
        table.add_row(
            "loss", number(metrics.get("loss")), "learning rate", number(metrics.get("learning_rate"))
        )
        self.live.update(Group(self._headline("warm-up", step, steps), table))

    def round(self, row: Row) -> None:
        self._lap("rounds")
        self.rewards.append(float(row.get("reward") or 0.0))
        cells = [("reward", number(row.get("reward")))]
        cells += [(f"· {name}", number(value)) for name, value in components(row)]
        facts = readings(row)
        table = _table()
        for place in range(max(len(cells), len(facts))):
            left = cells[place] if place < len(cells) else ("", "")
            right = facts[place] if place < len(facts) else ("", "")
            table.add_row(*left, *right)
        curve = Text(f"reward {sparkline(self.rewards, 40)}", style="dim")
        self.live.update(Group(self._headline("round", row["round"], self.recipe.rounds), table, curve))

    def finished(self, text: str) -> None:
        self.live.stop()
        super().finished(text)

    def _headline(self, what: str, done: int, total: int) -> Table:
        line = Table.grid(padding=(0, 1))
        for _ in range(4):
            line.add_column(no_wrap=True, overflow="ellipsis")
        bar = Bar(size=total, begin=0, end=done, width=16, color="green")
        line.add_row(
            f"[bold]{what} {done}/{total}", bar, f"{done / total:.0%}", self.clock.left(total - done)
        )
        return line


def components(row: Row) -> list[tuple[str, float]]:
    """The mean of each reward component, by name."""
    prefix, suffix = "rewards/", "/mean"
    return [
        (key[len(prefix) : -len(suffix)], value)
        for key, value in row.items()
        if key.startswith(prefix) and key.endswith(suffix)
    ]


def readings(row: Row) -> list[tuple[str, str]]:
    """The other things to watch, with their values as text. Those the row lacks are left out."""
    wanted = (
        ("accuracy", "accuracy", percent),
        ("format", "format_rate", percent),
        ("length", "completions/mean_length", lambda value: f"{value:,.0f}"),
        ("cut off", "completions/clipped_ratio", percent),
        ("no signal", "frac_reward_zero_std", percent),
        ("KL", "kl", number),
        ("entropy", "entropy", number),
        ("grad norm", "grad_norm", number),
        ("tokens/s", "tokens_per_second", lambda value: f"{value:,.0f}"),
    )
    return [(name, shown(row[key])) for name, key, shown in wanted if row.get(key) is not None]


def number(value: float | None) -> str:
    """Three significant figures; an em dash for nothing."""
    return "—" if value is None else f"{value:.3g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def sparkline(values: deque[float], width: int) -> str:
    """The values' course in at most `width` characters, each the mean of its stretch, from lowest to
    highest.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    width = min(width, len(finite))
    edges = [round(place * len(finite) / width) for place in range(width + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(SPARKS[min(len(SPARKS) - 1, int((mean - low) / span * len(SPARKS)))] for mean in means)


def _due(done: int, total: int, most: int) -> bool:
    every = math.ceil(total / most)
    return done % every == 0 or done in (1, total)


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column(justify="right", min_width=8, no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", min_width=8, no_wrap=True)
    return table
