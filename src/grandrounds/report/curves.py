"""Learning curves from a run's metrics, as points of small SVG charts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.shares import percent

WIDTH, HEIGHT = 320.0, 150.0
# The plot area within the chart. The rest is for labels at the left and below.
LEFT, RIGHT, TOP, BOTTOM = 44.0, 308.0, 12.0, 124.0
# The most points drawn: more would be closer together than a pixel.
_MOST = 400
# Rows of the table behind a chart.
_MOST_ROWS = 60
# The bold line is a moving mean over this share of the rounds.
_SMOOTH = 0.05


@dataclass(frozen=True)
class Curve:
    """One chart. raw, smooth: "x,y x,y …" in the chart's own units. marks: (y, label) of the axis.

    in_words: a description for readers who cannot see the line. table: (round, value as text), of every `every`th of
    all `points`.
    """

    title: str
    raw: str
    smooth: str
    marks: tuple[tuple[float, str], ...]
    first_round: int
    last_round: int
    end: tuple[float, float]
    in_words: str
    table: tuple[tuple[int, str], ...]
    every: int
    points: int


@dataclass(frozen=True)
class _Kind:
    key: str
    title: str
    write: Callable[[float], str]
    bounds: tuple[float, float] | None = None


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


_LEARNING = (
    _Kind("accuracy", "Right answers", percent, (0.0, 1.0)),
    _Kind("held_out/accuracy", "Right answers, held-out cases", percent, (0.0, 1.0)),
    _Kind("reward", "Reward", _number),
    _Kind("completions/mean_length", "Tokens per response", _number),
)
_FURTHER = (
    _Kind("completions/clipped_ratio", "Responses cut off", percent, (0.0, 1.0)),
    _Kind("format_rate", "Responses in the required form", percent, (0.0, 1.0)),
    _Kind("entropy", "Entropy per token, in nats", _number),
    _Kind("kl", "KL divergence from the reference", _number),
    _Kind("frac_reward_zero_std", "Groups without a difference to learn from", percent, (0.0, 1.0)),
    _Kind("grad_norm", "Norm of the gradient", _number),
    _Kind("learning_rate", "Learning rate", _number),
    _Kind("tokens_per_second", "Tokens sampled per second", _number),
    _Kind("step_time", "Seconds per round", _number),
)
_COMPONENT = re.compile(r"rewards/(.+)/mean")


def curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Charts of what was learned, of rows of `metrics.jsonl`. Empty for fewer than two rounds."""
    return _drawn(rows, _LEARNING)


def all_curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Also the reward's components, and how the rounds went: exploration, gradients, speed."""
    names = dict.fromkeys(match[1] for row in rows for key in row if (match := _COMPONENT.fullmatch(key)))
    components = [_Kind(f"rewards/{name}/mean", f"Reward component: {name}", _number) for name in names]
    return _drawn(rows, (*_LEARNING, *components, *_FURTHER))


def _drawn(rows: Sequence[Mapping[str, Any]], kinds: Sequence[_Kind]) -> tuple[Curve, ...]:
    found = []
    for kind in kinds:
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
        return " ".join("{},{}".format(*place(rounds[i], heights[i])) for i in _places(len(rounds), _MOST))

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
        table=tuple((rounds[i], kind.write(values[i])) for i in _places(len(rounds), _MOST_ROWS)),
        every=math.ceil(len(rounds) / _MOST_ROWS),
        points=len(rounds),
    )


def _places(count: int, most: int) -> list[int]:
    """About `most` places of so many, evenly, and the last one."""
    return sorted({*range(0, count, math.ceil(count / most)), count - 1})


def _bounds(values: list[float]) -> tuple[float, float]:
    """The axis range: a little wider than the data, and never empty."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or abs(high) * 0.1 or 0.5
    return low - margin if low < 0 else max(0.0, low - margin), high + margin


def _moving_mean(values: list[float]) -> list[float]:
    reach = max(1, round(len(values) * _SMOOTH)) if len(values) >= 10 else 0
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]
