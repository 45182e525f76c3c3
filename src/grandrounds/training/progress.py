"""What a run reports while it goes on, and one plain line for each report. Bars are drawn by the command line."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

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

    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None: ...
    def round(self, done: int, rounds: int, row: MetricsRow) -> None: ...
    def note(self, text: str) -> None: ...
    def stopping(self) -> None:
        os.write(
            2, f"\n{STOPPING}\n".encode()
        )  # not print: the signal may interrupt a write to the same stream

    def finished(self, text: str) -> None: ...


class PlainProgress(SilentProgress):
    """Prints one line for each round; for every Nth only where there would be very many."""

    def __init__(self) -> None:
        self._phase, self._began, self._first = "", 0.0, 0

    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None:
        left = self._left("warm-up", step, steps)
        if _due(step, steps, MOST_WARMUP_LINES):
            self._print(f"warm-up {step}/{steps}", f"loss {number(metrics.get('loss'))}", left)

    def round(self, done: int, rounds: int, row: MetricsRow) -> None:
        left = self._left("rounds", done, rounds)
        if not _due(done, rounds, MOST_ROUND_LINES):
            return
        parts = ", ".join(f"{name} {number(value)}" for name, value in components(row))
        reward = f"reward {number(row.get('reward'))}" + (f" ({parts})" if parts else "")
        self._print(
            f"round {done}/{rounds}", reward, *(f"{name} {value}" for name, value in readings(row)), left
        )

    def note(self, text: str) -> None:
        self._print(text)

    def finished(self, text: str) -> None:
        self._print(text)

    def _left(self, phase: str, done: int, total: int) -> str:
        """The time left in words. It is counted from the phase's first report, so that loading does not count."""
        if phase != self._phase:
            self._phase, self._began, self._first = phase, time.perf_counter(), done
        passed, steps = time.perf_counter() - self._began, done - self._first
        return f"{duration(passed / steps * (total - done))} left" if steps and done < total else ""

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


def _due(done: int, total: int, most: int) -> bool:
    every = math.ceil(total / most)
    return done % every == 0 or done in (1, total)
