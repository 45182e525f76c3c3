"""Learning curves from a run's metrics, as points of small SVG charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.report.words import percent

WIDTH, HEIGHT = 320.0, 150.0
# The plot area within the chart. The rest is for labels at the left and below.
LEFT, RIGHT, TOP, BOTTOM = 44.0, 308.0, 12.0, 124.0
# The most points drawn: more would be closer together than a pixel.
_MOST = 400
# The bold line is a moving mean over this share of the rounds.
_SMOOTH = 0.05


@dataclass(frozen=True)
class Curve:
    """One chart. raw, smooth: "x,y x,y …" in the chart's own units. marks: (y, label) of the axis.

    in_words: a description for readers who cannot see the line.
    """

    title: str
    raw: str
    smooth: str
    marks: tuple[tuple[float, str], ...]
    first_round: int
    last_round: int
    end: tuple[float, float]
    in_words: str


@dataclass(frozen=True)
class _Kind:
    key: str
    title: str
    write: Callable[[float], str]
    bounds: tuple[float, float] | None = None


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


_KINDS = (
    _Kind("accuracy", "Right answers", percent, (0.0, 1.0)),
    _Kind("held_out/accuracy", "Right answers, held-out cases", percent, (0.0, 1.0)),
    _Kind("reward", "Reward", _number),
    _Kind("completions/mean_length", "Tokens per response", _number),
)


def curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Charts of the metrics in rows of `metrics.jsonl`. Empty for fewer than two rounds."""
    found = []
    for kind in _KINDS:
        course = [
            (int(row["round"]), float(row[kind.key]))
            for row in rows
            if "round" in row and isinstance(row.get(kind.key), (int, float)) and math.isfinite(row[kind.key])
        ]
        if len(course) >= 2:
            found.append(_curve(kind, course))
    return tuple(found)


def _curve(kind: _Kind, course: list[tuple[int, float]]) -> Curve:
    rounds = [number for number, _ in course]
    values = [value for _, value in course]
    low, high = kind.bounds or _bounds(values)
    smooth = _moving_mean(values)

    def place(number: int, value: float) -> tuple[float, float]:
        x = LEFT + (RIGHT - LEFT) * (number - rounds[0]) / max(1, rounds[-1] - rounds[0])
        return round(x, 1), round(BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low), 1)

    def line(heights: list[float]) -> str:
        step = math.ceil(len(rounds) / _MOST)
        chosen = sorted({*range(0, len(rounds), step), len(rounds) - 1})
        return " ".join("{},{}".format(*place(rounds[i], heights[i])) for i in chosen)

    marks = tuple((place(rounds[0], level)[1], kind.write(level)) for level in (low, (low + high) / 2, high))
    return Curve(
        title=kind.title,
        raw=line(values),
        smooth=line(smooth),
        marks=marks,
        first_round=rounds[0],
        last_round=rounds[-1],
        end=place(rounds[-1], smooth[-1]),
        in_words=f"{kind.write(smooth[0])} at first, {kind.write(smooth[-1])} in the end",
    )


def _bounds(values: list[float]) -> tuple[float, float]:
    """The axis range: a little wider than the data, and never empty."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or max(0.5, abs(high) * 0.1)
    return low - margin if low < 0 else max(0.0, low - margin), high + margin


def _moving_mean(values: list[float]) -> list[float]:
    reach = max(1, round(len(values) * _SMOOTH)) if len(values) >= 10 else 0
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]
