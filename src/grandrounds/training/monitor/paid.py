"""Which component of the reward pays for a feature of completions that is not wanted.

Among completions of one case that are equally right, a component that gives more to those with more of the feature pays
for it. The slope of its score on the feature is taken within these sets, and its error over the groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grandrounds.training.monitor.readings import Feature
from grandrounds.types import ScoredGroup

# Standard errors from which on a component is named. It is an explanation of a change that is clear by itself.
NAMED = 3.0
# Groups in which both differ; fewer say too little about their spread.
LEAST = 5


@dataclass(frozen=True)
class Payer:
    """A component, and how much of the reward it adds for one more unit of the feature."""

    component: str
    slope: float


def most_paying(
    groups: Sequence[ScoredGroup], feature: Feature, weights: Mapping[str, float], way: int
) -> Payer | None:
    """The component that pays most for the feature (way 1) or for its lack (-1). None where none clearly does."""
    values = [[feature(sample) for sample in group.samples] for group in groups]
    found = [
        Payer(name, slope)
        for name in groups[0].scores
        if weights.get(name) and (slope := _slope(groups, name, values, way * weights[name])) is not None
    ]
    return max(found, key=lambda payer: payer.slope, default=None)


def _slope(
    groups: Sequence[ScoredGroup], name: str, values: Sequence[Sequence[float | None]], weight: float
) -> float | None:
    """The weighted slope of a component's score on a feature. None where it is not clearly positive."""
    pairs = [
        list(_equally_right(group, name, of_group)) for group, of_group in zip(groups, values, strict=True)
    ]
    found = clustered_slope(pairs)
    if found is None:
        return None
    slope, error = found
    return weight * slope if weight * slope > NAMED * abs(weight) * error else None


def clustered_slope(groups: Iterable[Sequence[tuple[float, float]]]) -> tuple[float, float] | None:
    """Slope and standard error of y on x, through the origin, the error over groups of (x, y).

    None where fewer than `LEAST` groups have any x but 0.
    """
    products, squares = [], []
    for pairs in groups:
        if sum(x * x for x, _ in pairs) > 0:
            products.append(sum(x * y for x, y in pairs))
            squares.append(sum(x * x for x, _ in pairs))
    if len(products) < LEAST:
        return None
    slope = sum(products) / sum(squares)
    residuals = np.array(products) - slope * np.array(squares)
    return slope, math.sqrt(float((residuals**2).sum())) / sum(squares)


def _equally_right(
    group: ScoredGroup, name: str, values: Sequence[float | None]
) -> Iterator[tuple[float, float]]:
    """(feature, score) of the right ones and of the wrong ones, each less its mean among these."""
    for right in (True, False):
        known = [
            (value, score)
            for sample, value, score in zip(group.samples, values, group.scores[name], strict=True)
            if sample.verdict.correct is right and value is not None and score is not None
        ]
        if known:
            middle, score_middle = np.mean(known, axis=0)
            yield from ((value - middle, score - score_middle) for value, score in known)
