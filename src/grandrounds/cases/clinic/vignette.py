"""Sampling vignettes: a patient with one condition, what is found in them, and what of it is told.

Kept are vignettes whose sampled condition is the exact posterior's first choice by a margin, and whose points agree
with it, so that the right answer is decidable from the text. Most of those that a shortcut solves are dropped.
Everything is computed for a block of candidates at once: few are kept, and thousands are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from grandrounds.cases.clinic.world import BANDS, SEXES, Cluster, World

OPTIONS = 4
LEAST_POSTERIOR = 0.6
LEAST_LEAD = 1  # points between the right option and the next
# The share kept of what a shortcut solves.
KEPT = {"prior": 0.5, "first finding": 0.6, "overlap": 0.25}


@dataclass(frozen=True)
class Style:
    """What differs between the training vignettes and the held-out sets."""

    present: tuple[int, int] = (2, 4)  # findings told, at least and at most
    absent: tuple[int, int] = (1, 2)  # pertinent negatives told
    unseen_phrasings: bool = False
    shifted_prevalence: bool = False
    overlap_must_fail: bool = False
    swap_demographics: bool = False


@dataclass(frozen=True)
class Vignette:
    """One patient as the clinic knows them.

    options: rows of the cluster. facts: canonical, in telling order: age band, sex, findings, negatives.
    posterior: of each option, normalised over the whole cluster. shortcuts: those that solve it.
    """

    cluster: Cluster
    condition: int
    options: tuple[int, ...]
    age: int
    sex: str
    facts: tuple[str, ...]
    posterior: np.ndarray = field(repr=False)
    shortcuts: tuple[str, ...]


@dataclass(frozen=True)
class _Block:
    """n candidates of one cluster with C conditions, K findings, F facts."""

    condition: np.ndarray  # [n]
    told: np.ndarray  # [n, F] +1 told present, -1 told absent, 0 not told
    order: np.ndarray  # [n, F] telling order of the findings
    totals: np.ndarray  # [n, C] points
    posterior: np.ndarray  # [n, C]


def vignettes(
    world: World, generator: np.random.Generator, style: Style, size: int = 512
) -> Iterator[Vignette]:
    """Decidable vignettes without end, clusters mixed; `size` candidates of each cluster at a time."""
    while True:
        kept = [v for cluster in world.clusters for v in _of_cluster(cluster, generator, style, size)]
        for index in generator.permutation(len(kept)):
            yield kept[index]


def _of_cluster(cluster: Cluster, generator: np.random.Generator, style: Style, size: int) -> list[Vignette]:
    block = _candidates(cluster, generator, style, size)
    options = _options(block, generator)  # [n, OPTIONS]
    rows = np.arange(len(block.condition))
    totals = np.take_along_axis(block.totals, options, 1)
    is_right = options == block.condition[:, None]
    lead = block.totals[rows, block.condition] - np.where(is_right, -99, totals).max(1)
    count = (block.told[:, : len(cluster.findings)] > 0).sum(1)
    decidable = (
        (block.posterior.argmax(1) == block.condition)
        & (block.posterior[rows, block.condition] >= LEAST_POSTERIOR)
        & (lead >= LEAST_LEAD)
        & (count >= style.present[0])
    )
    solved = _shortcuts(cluster, block, options, is_right)
    if style.overlap_must_fail:
        decidable &= ~solved["overlap"]
    else:
        for name, solves in solved.items():
            decidable &= ~solves | (generator.random(len(rows)) < KEPT[name])
    age = generator.random(len(rows))
    return [
        _vignette(cluster, block, options[row], age[row], {n: bool(s[row]) for n, s in solved.items()}, row)
        for row in np.flatnonzero(decidable)
    ]


def _candidates(cluster: Cluster, generator: np.random.Generator, style: Style, size: int) -> _Block:
    prevalence = 1 / cluster.prevalence if style.shifted_prevalence else cluster.prevalence
    condition = generator.choice(len(cluster.conditions), size, p=prevalence / prevalence.sum())
    findings, bands = len(cluster.findings), len(BANDS)
    has = generator.random((size, findings)) < cluster.probability[condition, :findings]
    order = np.argsort(generator.random((size, findings)), 1)
    rank = np.argsort(order, 1)
    told = np.zeros((size, len(cluster.facts)), int)
    told[:, :findings] += _first(has, rank, generator.integers(style.present[0], style.present[1] + 1, size))
    telling = ~has & (cluster.points_absent[:, :findings] < 0).any(0)
    told[:, :findings] -= _first(telling, rank, generator.integers(style.absent[0], style.absent[1] + 1, size))
    band = _draw(generator, cluster.probability[condition, findings : findings + bands])
    sex = _draw(generator, cluster.probability[condition, findings + bands :])
    if style.swap_demographics:
        band, sex = _swapped(cluster, condition, band, sex)
    told[np.arange(size), findings + band] = 1
    told[np.arange(size), findings + bands + sex] = 1
    present, absent = (told > 0).astype(float), (told < 0).astype(float)
    totals = present @ cluster.points_present.T + absent @ cluster.points_absent.T
    log = np.log(cluster.prevalence / cluster.prevalence.sum())
    log = log + present @ np.log(cluster.probability).T + absent @ np.log(1 - cluster.probability).T
    posterior = np.exp(log - log.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    return _Block(condition, told, order, totals.astype(int), posterior)


def _first(which: np.ndarray, rank: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The `count` [n] first of `which` [n, K] in the order of `rank`."""
    among = np.argsort(np.argsort(np.where(which, rank, rank.shape[1]), 1, kind="stable"), 1)
    return which & (among < count[:, None])


def _draw(generator: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """One column of each row, by its weights."""
    cumulative = weights.cumsum(1)
    noise = generator.random(len(weights)) * cumulative[:, -1]
    return (noise[:, None] >= cumulative).sum(1)


def _swapped(
    cluster: Cluster, condition: np.ndarray, band: np.ndarray, sex: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An age and sex that speak against the condition, where it has a tendency."""
    bands = list(BANDS)
    against = {None: -1, "young": bands.index("older"), "middle": bands.index("young"), "older": 0}
    new_band = np.array([against[typical] for typical in cluster.typical_band])[condition]
    typical_sex = [-1 if sex is None else 1 - SEXES.index(sex) for sex in cluster.typical_sex]
    new_sex = np.array(typical_sex)[condition]
    return np.where(new_band < 0, band, new_band), np.where(new_sex < 0, sex, new_sex)


def _options(block: _Block, generator: np.random.Generator) -> np.ndarray:
    """The condition and its hardest rivals by points, shuffled; [n, OPTIONS]."""
    rows = np.arange(len(block.condition))
    hardness = block.totals + generator.random(block.totals.shape)
    hardness[rows, block.condition] = np.inf
    options = np.argsort(-hardness, 1)[:, :OPTIONS]
    return generator.permuted(options, axis=1)


def _shortcuts(
    cluster: Cluster, block: _Block, options: np.ndarray, is_right: np.ndarray
) -> dict[str, np.ndarray]:
    """Which shortcuts get which candidates right [n]: the commonest option, the first finding, counting overlaps.

    A shortcut is right only if its own first choice is unique.
    """
    findings = len(cluster.findings)
    rows = np.arange(len(options))
    positive = block.told[:, :findings] > 0
    supports = (cluster.points_present[:, :findings] > 0).astype(int)
    first = np.take_along_axis(positive, block.order, 1).argmax(1)
    scores = {
        "prior": np.broadcast_to(cluster.prevalence, block.totals.shape),
        "first finding": cluster.points_present[:, block.order[rows, first]].T,
        "overlap": positive.astype(int) @ supports.T,
    }
    solved = {}
    for name, score in scores.items():
        score = np.take_along_axis(score, options, 1)
        solved[name] = score[is_right] > np.where(is_right, -99, score).max(1)
    return solved


def _vignette(
    cluster: Cluster, block: _Block, options: np.ndarray, age: float, solved: dict[str, bool], row: int
) -> Vignette:
    findings = len(cluster.findings)
    told = block.told[row]
    demographics = tuple(cluster.facts[i] for i in range(findings, len(cluster.facts)) if told[i])
    present = tuple(cluster.findings[i] for i in block.order[row] if told[i] > 0)
    absent = tuple(f"no {cluster.findings[i]}" for i in block.order[row] if told[i] < 0)
    low, high = BANDS[demographics[0]]
    return Vignette(
        cluster=cluster,
        condition=int(block.condition[row]),
        options=tuple(int(option) for option in options),
        age=low + int(age * (high + 1 - low)),
        sex=demographics[1],
        facts=(*demographics, *present, *absent),
        posterior=block.posterior[row, options],
        shortcuts=tuple(name for name, solves in solved.items() if solves),
    )
