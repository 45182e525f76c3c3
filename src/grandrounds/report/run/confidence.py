"""Drawings of calibration and of risk and coverage, as points of SVG charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grandrounds.evaluation.calibration import Calibration, calibration
from grandrounds.evaluation.compare import Comparison
from grandrounds.report.curves import BOTTOM, LEFT, RIGHT, TOP
from grandrounds.shares import percent

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Spot:
    """One confidence: where it stands, its interval's ends, and how large its dot is (by its cases)."""

    x: float
    y: float
    low: float
    high: float
    radius: float


@dataclass(frozen=True)
class Drawn:
    """One policy's calibration with its drawing. line: its risk by coverage, as "x,y x,y …"."""

    name: str
    found: Calibration
    spots: tuple[Spot, ...]
    line: str
    in_words: str
    risk_in_words: str


def drawn(comparison: Comparison) -> list[Drawn]:
    """Each policy that gave several answers to each case."""
    found: Mapping[str, Calibration | None] = {
        name: calibration(evaluation, seed=comparison.seed)
        for name, evaluation in comparison.evaluations.items()
    }
    return [_drawn(name, one) for name, one in found.items() if one is not None]


def _drawn(name: str, found: Calibration) -> Drawn:
    most = max(level.count for level in found.levels)
    spots = tuple(
        Spot(
            across(level.confidence),
            up(level.accuracy),
            up(level.interval[0]),
            up(level.interval[1]),
            round(2.5 + 4 * (level.count / most) ** 0.5, 1),
        )
        for level in found.levels
    )
    surest = found.coverage[0]
    return Drawn(
        name=name,
        found=found,
        spots=spots,
        line=" ".join(f"{across(one.coverage)},{up(one.risk)}" for one in found.coverage),
        in_words=f"mean confidence {percent(found.confidence)}, most frequent answer right {percent(found.accuracy)}, "
        f"expected calibration error {found.error:.3f}",
        risk_in_words=f"{percent(surest.risk)} wrong among the surest {percent(surest.coverage)} of cases, "
        f"{percent(found.coverage[-1].risk)} among all",
    )


def across(share: float) -> float:
    """The place of a share on the x axis."""
    return round(LEFT + (RIGHT - LEFT) * share, 1)


def up(share: float) -> float:
    """The place of a share on the y axis."""
    return round(BOTTOM - (BOTTOM - TOP) * share, 1)
