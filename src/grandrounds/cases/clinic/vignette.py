"""Sampling a vignette: a patient with one condition, what is found in them, and what of it is told.

Kept are vignettes whose sampled condition is the exact posterior's first choice by a margin, and whose points agree
with it, so that the right answer is decidable from the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from grandrounds.cases.clinic.world import BANDS, SEXES, Cluster, World

OPTIONS = 4
LEAST_POSTERIOR = 0.7
LEAST_LEAD = 2  # points between the right option and the next
# Of what a shortcut solves, this share is kept; the rest is drawn again.
SHORTCUT_KEPT = 0.45


@dataclass(frozen=True)
class Style:
    """What differs between the training vignettes and the held-out sets."""

    present: tuple[int, int] = (3, 5)  # findings told, at least and at most
    absent: tuple[int, int] = (1, 2)  # pertinent negatives told
    unseen_phrasings: bool = False
    shifted_prevalence: bool = False
    overlap_must_fail: bool = False
    swap_demographics: bool = False


@dataclass(frozen=True)
class Vignette:
    """One patient as the clinic knows them. Options are rows of the cluster; facts are canonical and in telling order.

    posterior: of each option, normalised over the whole cluster. totals: points of each option.
    """

    cluster: Cluster
    condition: int
    options: tuple[int, ...]
    age: int
    sex: str
    facts: tuple[str, ...]
    posterior: np.ndarray = field(repr=False)
    totals: tuple[int, ...] = ()
    shortcuts: tuple[str, ...] = ()


def draw(world: World, generator: np.random.Generator, style: Style) -> Vignette:
    """A decidable vignette of the given style."""
    while True:
        vignette = _candidate(world, generator, style)
        if vignette is None:
            continue
        if style.overlap_must_fail:
            if "overlap" in vignette.shortcuts:
                continue
        elif vignette.shortcuts and generator.random() > SHORTCUT_KEPT:
            continue
        return vignette


def _candidate(world: World, generator: np.random.Generator, style: Style) -> Vignette | None:
    cluster = world.clusters[generator.integers(len(world.clusters))]
    prevalence = 1 / cluster.prevalence if style.shifted_prevalence else cluster.prevalence
    condition = int(generator.choice(len(cluster.conditions), p=prevalence / prevalence.sum()))
    findings = len(cluster.findings)
    has = generator.random(len(cluster.facts)) < cluster.probability[condition]
    present = generator.permutation(np.flatnonzero(has[:findings]))
    if not style.present[0] <= len(present) <= max(style.present[1], 5):
        return None
    present = present[: style.present[1]]
    bands, sexes = list(BANDS), list(SEXES)
    row = cluster.probability[condition]
    band = bands[generator.choice(len(bands), p=_normal(row[findings : findings + len(bands)]))]
    sex = sexes[generator.choice(len(sexes), p=_normal(row[findings + len(bands) :]))]
    if style.swap_demographics:
        band, sex = _swapped(cluster, condition, band, sex)
    others = [row for row in range(len(cluster.conditions)) if row != condition]
    options = generator.permutation([condition, *generator.permutation(others)[: OPTIONS - 1]])
    absent = _negatives(cluster, options, has, generator, style)
    told = [cluster.findings[i] for i in present] + [f"no {cluster.findings[i]}" for i in absent]
    facts = (band, sex, *told)
    posterior = cluster.posterior(facts)
    totals = tuple(sum(cluster.points(fact, option) for fact in facts) for option in options)
    right = int(np.flatnonzero(options == condition)[0])
    lead = totals[right] - max(total for i, total in enumerate(totals) if i != right)
    if posterior.argmax() != condition or posterior[condition] < LEAST_POSTERIOR or lead < LEAST_LEAD:
        return None
    low, high = BANDS[band]
    return Vignette(
        cluster=cluster,
        condition=condition,
        options=tuple(int(option) for option in options),
        age=int(generator.integers(low, high + 1)),
        sex=sex,
        facts=facts,
        posterior=posterior[options],
        totals=totals,
        shortcuts=shortcuts(cluster, condition, options, facts),
    )


def _normal(values: np.ndarray) -> np.ndarray:
    return values / values.sum()


def _swapped(cluster: Cluster, condition: int, band: str, sex: str) -> tuple[str, str]:
    """An age and sex that speak against the condition, where it has a tendency."""
    if cluster.typical_band[condition] is not None:
        band = "older" if cluster.typical_band[condition] == "young" else "young"
    if cluster.typical_sex[condition] is not None:
        sex = "man" if cluster.typical_sex[condition] == "woman" else "woman"
    return band, sex


def _negatives(
    cluster: Cluster, options: np.ndarray, has: np.ndarray, generator: np.random.Generator, style: Style
) -> np.ndarray:
    """Absent findings worth telling: their absence counts against at least one option."""
    count = int(generator.integers(style.absent[0], style.absent[1] + 1))
    telling = (cluster.points_absent[options] < 0).any(0) & ~has
    return generator.permutation(np.flatnonzero(telling[: len(cluster.findings)]))[:count]


def shortcuts(cluster: Cluster, condition: int, options: np.ndarray, facts: tuple[str, ...]) -> tuple[str, ...]:
    """The shortcuts that get this vignette right: the commonest option, the first finding, counting overlaps.

    A shortcut gets it right only if its own first choice is unique.
    """
    positive = [fact for fact in facts[2:] if not fact.startswith("no ")]
    scores = {
        "prior": cluster.prevalence[options],
        "first finding": np.array([cluster.points(positive[0], option) for option in options]),
        "overlap": np.array([sum(cluster.points(f, option) > 0 for f in positive) for option in options]),
    }
    right = options == condition
    return tuple(name for name, score in scores.items() if score[right][0] > score[~right].max())
