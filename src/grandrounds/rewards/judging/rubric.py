"""A rubric: criteria with points, as HealthBench (Arora et al. 2025, arXiv:2505.08775) has them.

score = clip(sum of the points of met criteria / sum of the positive points, 0, 1)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.loading import did_you_mean
from grandrounds.types import Case

FORM = "Write a list of {criterion: a text, points: a number other than 0}, with some points above 0."


@dataclass(frozen=True)
class Criterion:
    """What a response may meet. points: negative for what it should not do."""

    text: str
    points: float


Rubric = tuple[Criterion, ...]


def read_rubric(given: Any, where: str) -> Rubric:
    """A list of mappings with `criterion` and `points`, or JSON text of one. RewardError for anything else."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise RewardError("the rubric is a text that is no JSON", where=where, hint=FORM) from None
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise RewardError(f"the rubric is {type(given).__name__}, not a list", where=where, hint=FORM)
    rubric = tuple(_criterion(row, f"{where}, criterion {number}") for number, row in enumerate(given, 1))
    if not any(criterion.points > 0 for criterion in rubric):
        raise RewardError("no criterion of the rubric has points above 0", where=where, hint=FORM)
    return rubric


def _criterion(row: Any, where: str) -> Criterion:
    if not isinstance(row, Mapping):
        raise RewardError(f"a criterion is {type(row).__name__}, not a mapping", where=where, hint=FORM)
    text, points = row.get("criterion"), row.get("points")
    if not isinstance(text, str) or not text.strip():
        raise RewardError("it has no text in `criterion`", where=where, hint=FORM)
    number = isinstance(points, (int, float)) and not isinstance(points, bool)
    if not number or not math.isfinite(points) or points == 0:  # type: ignore[arg-type]
        raise RewardError(f"its `points` are {points!r:.40}", where=where, hint=FORM)
    return Criterion(text.strip(), float(points))  # type: ignore[arg-type]


def rubric_of_column(case: Case, column: str) -> Rubric | None:
    """The rubric in a case's column; None where the column is empty there. RewardError where it is missing."""
    where = f"case {case.id}"
    if column not in case.columns:
        raise RewardError(
            f"the case has no column `{column}`, which should hold its rubric",
            where=where,
            hint=did_you_mean(column, case.columns)
            or "Name another column; leave it empty in cases that are not to be judged.",
        )
    given = case.columns[column]
    return None if given is None or given in ("", "[]", [], ()) else read_rubric(given, where)


def score_of(rubric: Rubric, met: Sequence[bool]) -> float:
    """Points met of points possible, from 0 to 1."""
    earned = sum(criterion.points for criterion, yes in zip(rubric, met, strict=True) if yes)
    return min(1.0, max(0.0, earned / sum(max(0.0, criterion.points) for criterion in rubric)))
