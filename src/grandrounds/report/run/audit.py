"""The audit for reward hacking: what the monitor said, which components pay for what, and suspect gold answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.evaluation.suspects import Suspect, suspects
from grandrounds.report.run.facts import Logs, Row

# Rounds at each end whose completions are looked at.
WINDOW = 5
PREFIX = "rewards/"
# Standard errors from which on a slope is shown as clear.
CLEAR = 3.0
COLUMNS = ("round", "group", "case_id", "given", "answer", "gold", "correct")


@dataclass(frozen=True)
class Payment:
    """What one component gave, as mean scores; None without a completion of that kind.

    right, wrong: to right and to wrong completions, in the first and in the last rounds.
    per_100_tokens: reward (weighted) for 100 more tokens, among equally right completions to one case in the last
    rounds; None where that cannot be told. clear: whether it is three standard errors from 0.
    """

    component: str
    weight: float
    gate: bool
    right: tuple[float | None, float | None]
    wrong: tuple[float | None, float | None]
    per_100_tokens: float | None
    clear: bool


@dataclass(frozen=True)
class Payments:
    """All components, and the rounds that were looked at."""

    rows: list[Payment]
    first: tuple[int, int]
    last: tuple[int, int]


def payments(logs: Logs) -> Payments | None:
    """From the rollouts of the first and the last rounds; None without rollouts."""
    from grandrounds.training.trace import read_trace

    rounds = rollout_rounds(logs.path)
    if not rounds:
        return None
    first, last = rounds[:WINDOW], rounds[-WINDOW:]
    columns = ("round", "group", "correct", "length", f"{PREFIX}*")
    early, late = (read_trace(logs.path, part, columns).to_pylist() for part in (first, last))
    names = [key.removeprefix(PREFIX) for key in late[0] if key.startswith(PREFIX)]
    return Payments(
        [_payment(logs, name, early, late) for name in names], (first[0], first[-1]), (last[0], last[-1])
    )


def rollout_rounds(run: Path) -> list[int]:
    """The rounds whose completions the run's folder holds."""
    return sorted(int(path.stem) for path in (run / "rollouts").glob("*.parquet") if path.stem.isdigit())


def _payment(logs: Logs, name: str, early: Sequence[Row], late: Sequence[Row]) -> Payment:
    spec = logs.recipe.rewards.get(name)
    weight = spec.weight if spec else 1.0
    slope = _length_slope(late, f"{PREFIX}{name}")
    return Payment(
        component=name,
        weight=weight,
        gate=bool(spec and spec.gate),
        right=(_mean(early, name, True), _mean(late, name, True)),
        wrong=(_mean(early, name, False), _mean(late, name, False)),
        per_100_tokens=None if slope is None else 100 * weight * slope[0],
        clear=slope is not None and abs(slope[0]) > CLEAR * slope[1],
    )


def _mean(rows: Iterable[Row], name: str, right: bool) -> float | None:
    known = [
        row[f"{PREFIX}{name}"]
        for row in rows
        if row["correct"] is right and row.get(f"{PREFIX}{name}") is not None
    ]
    return sum(known) / len(known) if known else None


def _length_slope(rows: Iterable[Row], key: str) -> tuple[float, float] | None:
    """Slope of a score on length, and its error, within completions to one case that are equally right."""
    from grandrounds.training.monitor.paid import clustered_slope

    sets: dict[tuple[int, int], dict[bool, list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        if row.get(key) is not None:
            sets[row["round"], row["group"]][row["correct"]].append((float(row["length"]), row[key]))
    return clustered_slope(
        [pair for same in by_verdict.values() for pair in _centred(same)] for by_verdict in sets.values()
    )


def _centred(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    x_mean, y_mean = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return [(x - x_mean, y - y_mean) for x, y in pairs]


def suspects_of(logs: Logs) -> list[Suspect] | None:
    """Suspect gold answers of the whole run; None without rollouts that say how answers were understood."""
    from grandrounds.training.trace import read_trace

    if not rollout_rounds(logs.path):
        return None
    table: Any = read_trace(logs.path, columns=COLUMNS)
    return suspects(table.to_pylist()) if set(COLUMNS) <= set(table.column_names) else None
