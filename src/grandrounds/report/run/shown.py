"""Which cases are shown: the worst regressions by a stated rule, then some of every outcome by lot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from grandrounds.evaluation.compare import Comparison, lot
from grandrounds.evaluation.result import CaseResult
from grandrounds.report.page import example_card, shown_example

MOST_REGRESSIONS, EACH = 8, 2


@dataclass(frozen=True)
class Regression:
    """A case that another policy answered better than the last one.

    other: the first of the policies that did so best. better: how many did. drop: by how much.
    """

    id: str
    other: str
    better: int
    drop: float


def regressions(comparison: Comparison) -> list[Regression]:
    """All of them, the worst first: by the drop, then by how many policies did better, then by lot."""
    *others, last = comparison.names
    shares = {
        name: {case.id: case.share_correct for case in evaluation.cases}
        for name, evaluation in comparison.evaluations.items()
    }
    found = []
    for id, own in shares[last].items():
        drops = {name: shares[name][id] - own for name in others if shares[name][id] - own > 1e-9}
        if drops:
            other = max(drops, key=lambda name: drops[name])
            found.append(Regression(id, other, len(drops), drops[other]))
    return sorted(found, key=lambda one: (-one.drop, -one.better, lot(comparison.seed, one.id)))


def regression_cards(comparison: Comparison, found: list[Regression]) -> list[dict[str, Any]]:
    """The first of them, to be shown side by side."""
    return [_card(comparison, one) for one in found[:MOST_REGRESSIONS]]


def _card(comparison: Comparison, one: Regression) -> dict[str, Any]:
    last = comparison.names[-1]
    label = (
        f"{one.other} right, {last} wrong" if one.drop == 1 else f"{one.other} more often right than {last}"
    )
    results: dict[str, CaseResult] = comparison.results(one.id)
    return example_card("lost", label, {name: results[name] for name in (one.other, last)})


def drawn_cards(comparison: Comparison, shown: list[Regression]) -> list[dict[str, Any]]:
    """Up to `EACH` cases of every outcome, by lot, without the regressions that are shown already."""
    known = {one.id for one in shown[:MOST_REGRESSIONS]}
    alone = len(comparison.names) == 1
    labels = {"both_right": "right", "both_wrong": "wrong"} if alone else {}
    count: Counter[str] = Counter()
    cards = []
    for example in comparison.examples(EACH + MOST_REGRESSIONS):
        if example.id in known or count[example.outcome] == EACH:
            continue
        count[example.outcome] += 1
        card = shown_example(comparison, example)
        cards.append({**card, "label": labels.get(example.outcome, card["label"])})
    return cards
