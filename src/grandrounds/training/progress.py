"""What a run reports while it goes on, and one plain line for each report. Bars are drawn by the command line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from grandrounds.recipe import Recipe
from grandrounds.shares import percent
from grandrounds.training.course import Course, Part
from grandrounds.training.whole import Timed

MetricsRow = Mapping[str, Any]
# About so many lines at most for a long run's rounds, and for its warm-up.
MOST_ROUND_LINES, MOST_WARMUP_LINES = 200, 20
STOPPING = (
    "Stopping after this round or warm-up step; then the run is saved. Press Ctrl-C again to stop at once."
)


class Progress(Protocol):
    """What a run reports to; used as a context manager around the run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def planned(self, recipe: Recipe, step: int, rounds: int, timed: Mapping[str, Timed]) -> None:
        """The run is about to begin, or to go on after so many SFT steps and rounds.

        timed: WARMUP, ROUNDS of `training.course` -> work that earlier commands have done, and its seconds.
        """

    def doing(self, what: str) -> None:
        """What the run does now, in a few words: "loading the model"."""

    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None:
        """One SFT step of `steps` is done."""

    def round(self, done: int, rounds: int, row: MetricsRow) -> None:
        """One round of `rounds` is done; `row` is its row of metrics.jsonl."""

    def note(self, text: str) -> None:
        """Something worth a line: the policy's description, a warning, a checkpoint."""

    def stopping(self) -> None:
        """The user has asked the run to stop, after its round or SFT step. A signal handler calls this."""

    def finished(self, text: str) -> None:
        """The run's last words."""


class SilentProgress:
    """Shows nothing but that a run is stopping."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def planned(self, recipe: Recipe, step: int, rounds: int, timed: Mapping[str, Timed]) -> None: ...
    def doing(self, what: str) -> None: ...
    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None: ...
    def round(self, done: int, rounds: int, row: MetricsRow) -> None: ...
    def note(self, text: str) -> None: ...
    def stopping(self) -> None:
        os.write(
            2, f"\n{STOPPING}\n".encode()
        )  # not print: the signal may interrupt a write to the same stream

    def finished(self, text: str) -> None: ...


class PlainProgress(SilentProgress):
    """Prints one line for each round; for every Nth only where there would be very many.

    part: the whole of which the run is a part; None: the time left is that of the run.
    """

    def __init__(self, part: Part | None = None) -> None:
        self._part = part
        self._course: Course | None = None

    def planned(self, recipe: Recipe, step: int, rounds: int, timed: Mapping[str, Timed]) -> None:
        self._course = Course(recipe, self._part)
        self._course.begin(step, rounds, timed)

    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None:
        if self._course is not None:
            self._course.step(step)
        if _due(step, steps, MOST_WARMUP_LINES):
            self._print(f"warm-up {step}/{steps}", f"loss {number(metrics.get('loss'))}", self._left())

    def round(self, done: int, rounds: int, row: MetricsRow) -> None:
        if self._course is not None:
            self._course.round(done)
        if not _due(done, rounds, MOST_ROUND_LINES):
            return
        parts = ", ".join(f"{name} {number(value)}" for name, value in components(row))
        reward = f"reward {number(row.get('reward'))}" + (f" ({parts})" if parts else "")
        told = (f"{name} {value}" for name, value in readings(row))
        self._print(f"round {done}/{rounds}", reward, *told, self._left())

    def note(self, text: str) -> None:
        self._print(text)

    def finished(self, text: str) -> None:
        self._print(text)

    def _left(self) -> str:
        """The time left of the whole in words; "" at its end, and where nothing is known."""
        whole = None if self._course is None else self._course.whole
        return "" if whole is None or whole.share == 1 else whole.words

    def _print(self, *parts: str) -> None:
        print("  ".join(part for part in parts if part), flush=True)


def components(row: MetricsRow) -> list[tuple[str, float]]:
    """The mean of each reward component, by name."""
    prefix, suffix = "rewards/", "/mean"
    return [
        (key[len(prefix) : -len(suffix)], value)
        for key, value in row.items()
        if key.startswith(prefix) and key.endswith(suffix)
    ]


def readings(row: MetricsRow) -> list[tuple[str, str]]:
    """The other things to watch, with their values as text. Those the row lacks are left out."""
    wanted = (
        ("accuracy", "accuracy", percent),
        ("held-out", "held_out/accuracy", percent),
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


def _due(done: int, total: int, most: int) -> bool:
    every = math.ceil(total / most)
    return done % every == 0 or done in (1, total)
