"""How often each training case is drawn, so that knowing how frequent answers are pays nothing (`cases.balance`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grandrounds.cases.shortcuts import is_choice
from grandrounds.errors import CaseError
from grandrounds.types import Case

# A case is drawn at most so many times as often, or as rarely, as the mean one.
MOST = 10.0
STEPS = 500


def label_weights(cases: Sequence[Case]) -> np.ndarray:
    """Weights of mean 1 [N] in which no label is right more often than chance makes it.

    For options: each label is right in the share of its offers that chance gives it. By iterative proportional fitting,

        w_i <- w_i · (Σ_j w_j [label offered by j] / options of j / Σ_j w_j [label right in j])^½    label: i's own

    which weights of at most MOST and at least 1/MOST meet as far as they can. For labels: each is right equally often.
    Raises CaseError for cases that have neither options nor labels.
    """
    if all(is_choice(case) for case in cases):
        return _choices(cases)
    if all(case.gold.kind == "label" for case in cases):
        _, gold, counts = np.unique(
            [case.gold.text.lower() for case in cases], return_inverse=True, return_counts=True
        )
        return _bounded(1.0 / counts[gold])
    raise CaseError(
        "cases can be balanced by label only where all have options, or all have labels",
        where="cases.balance",
        hint="Set cases.balance=none.",
    )


def _choices(cases: Sequence[Case]) -> np.ndarray:
    offers = [[text.lower() for text in case.options.values()] for case in cases]
    number = {name: place for place, name in enumerate(sorted({name for names in offers for name in names}))}
    gold = np.array([number[case.gold.text.lower()] for case in cases])
    sizes = np.array([len(names) for names in offers])
    offered = np.array([number[name] for names in offers for name in names])
    owner = np.repeat(np.arange(len(cases)), sizes)
    weights = np.ones(len(cases))
    for _ in range(STEPS):
        right = np.bincount(gold, weights, len(number))
        by_chance = np.bincount(offered, (weights / sizes)[owner], len(number))
        weights = _bounded(weights * np.sqrt(by_chance[gold] / right[gold]))
    return weights


def _bounded(weights: np.ndarray) -> np.ndarray:
    bounded = np.clip(weights / weights.mean(), 1 / MOST, MOST)
    return bounded / bounded.mean()
