"""The table of all policies, the paired tests, and how large the differences are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grandrounds.evaluation.compare import Comparison, Pair
from grandrounds.evaluation.effects import Effect, effect_of
from grandrounds.evaluation.result import SMALL, Subgroup
from grandrounds.evaluation.statistics import Interval, holm
from grandrounds.evaluation.subgroups import labels_of_content, simultaneous_interval, subgroups
from grandrounds.report.page import RowGroup, TableRow
from grandrounds.report.tables import MOST_VALUES
from grandrounds.report.words import cases
from grandrounds.shares import percent, percents


@dataclass(frozen=True)
class Test:
    """A pair with its p-value adjusted for all pairs (Holm, as log10), and its effect sizes as text."""

    pair: Pair
    log10_adjusted: float
    odds: str
    odds_interval: str
    cohens_h: str


def paired_tests(comparison: Comparison) -> list[Test]:
    """Every pair of the comparison."""
    adjusted = holm([pair.log10_p for pair in comparison.pairs])
    found = []
    for pair, log10_p in zip(comparison.pairs, adjusted, strict=True):
        effect = effect_of(pair, comparison.evaluations[pair.before].accuracy.value)
        found.append(Test(pair, log10_p, *_odds(effect), f"{effect.cohens_h:+.2f}"))
    return found


def _odds(effect: Effect) -> tuple[str, str]:
    if effect.odds_ratio is None or effect.odds_interval is None:
        return "none differ", ""
    low, high = effect.odds_interval
    return _times(effect.odds_ratio), f"{_times(low)} to {_times(high)}"


def _times(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2g}" if value < 100 else f"{value:,.0f}"


@dataclass(frozen=True)
class Groups:
    """All subgroups.

    cards: what they are grouped by -> a row for each group. intervals: how many intervals the cards show of one policy.
    standing_out: groups of the last policy that differ from its accuracy on all cases even where all intervals are to
    hold at once, as sentences.
    """

    cards: dict[str, list[RowGroup]]
    intervals: int
    standing_out: list[str]


def grouped(comparison: Comparison) -> Groups:
    """By what cases carry, and by right answer, right option and length."""
    first = next(iter(comparison.evaluations.values()))
    content = labels_of_content(first.cases)
    found = {
        name: subgroups(evaluation.cases, lambda case: {**case.tags, **content[case.id]})
        for name, evaluation in comparison.evaluations.items()
    }
    cards: dict[str, list[RowGroup]] = {}
    last = comparison.names[-1]
    for group in found[last]:
        cards.setdefault(group.tag, []).append(_row(group, found))
    cards = {tag: rows for tag, rows in cards.items() if 2 <= len(rows) <= MOST_VALUES}
    shown = [group for group in found[last] if group.tag in cards]
    overall = comparison.evaluations[last].accuracy.value
    return Groups(cards, len(shown), _standing_out(shown, overall))


def _row(wanted: Subgroup, found: dict[str, tuple[Subgroup, ...]]) -> RowGroup:
    rows = [
        TableRow(name, group.accuracy, group.interval)
        for name, groups in found.items()
        for group in groups
        if (group.tag, group.value) == (wanted.tag, wanted.value)
    ]
    # Thirds are numbered to stand in order.
    value = (
        wanted.value[2:]
        if wanted.value[:2] in ("1 ", "2 ", "3 ") and "words" in wanted.value
        else wanted.value
    )
    return RowGroup(value, wanted.count, wanted.count < SMALL, tuple(rows))


def _standing_out(groups: list[Subgroup], overall: float) -> list[str]:
    found = []
    for group in groups:
        interval: Interval = simultaneous_interval(group, len(groups))
        if not interval[0] <= overall <= interval[1]:
            way = "below" if interval[1] < overall else "above"
            found.append(
                f"{group.tag} “{group.value}”: {percent(group.accuracy)} of {cases(group.count)} right, {way} the "
                f"{percent(overall)} of all; the interval that allows for all groups is {percents(interval)}"
            )
    return found
