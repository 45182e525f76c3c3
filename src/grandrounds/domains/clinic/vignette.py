"""Samples vignettes: a patient with one condition, the findings that were asked about, and the answers.

The questions do not depend on the patient's condition: they are about some findings of one condition of the cluster and
some of another, both drawn at random. Every answer is observed, and only observations decide which patients are
rejected. So a finding that was not asked about carries no information, and the posterior over the cluster is exact:

    P(c | observed) = P(c) P(age | c) P(sex | c) prod over the asked f of P(answer to f | c), normalised

A patient becomes a vignette if their condition has the highest posterior, with a margin, and the most points too. So a
Bayes-optimal reader is always right, and so is one who weighs everything and adds up the points. Most vignettes that
a shortcut solves are rejected. Everything is computed for a block of candidates at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from grandrounds.domains.clinic.world import BANDS, Cluster, World

OPTIONS = 4
LEAST_POSTERIOR = 0.6
LEAST_LEAD = 1  # points between the right option and the next best
SWAP_MATTERS = 0.1  # least change of a posterior that swapping age and sex must cause
# The share of vignettes that is kept of those that a shortcut solves.
KEPT = {"prior": 0.5, "first finding": 0.35, "overlap": 0.25}


@dataclass(frozen=True)
class Style:
    """The settings in which the training vignettes and the held-out sets differ."""

    present: tuple[int, int] = (2, 4)  # findings observed present: least, most
    absent: tuple[int, int] = (1, 2)  # findings observed absent (pertinent negatives): least, most
    asked: tuple[int, int] = (4, 2)  # most findings asked about, of one condition and of another
    unseen_phrasings: bool = False
    shifted_prevalence: bool = False
    overlap_must_fail: bool = False
    swap_demographics: bool = False


@dataclass(frozen=True)
class Vignette:
    """One patient, with all that the clinic knows.

    options: rows of the cluster. facts: canonical, in the order of the text: age band, sex, findings, negatives.
    posterior: of each condition of the cluster. shortcuts: the names of those that solve it.
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
    """n candidates of one cluster, with C conditions, K findings and F facts."""

    condition: np.ndarray  # [n]
    observed: np.ndarray  # [n, F] +1 observed present, -1 observed absent, 0 not observed
    order: np.ndarray  # [n, K] order in which findings are told
    totals: np.ndarray  # [n, C] points
    posterior: np.ndarray  # [n, C]


def vignettes(
    world: World, generator: np.random.Generator, style: Style, size: int = 4096
) -> Iterator[Vignette]:
    """An endless stream of decidable vignettes from all clusters. Samples `size` candidates per cluster at a time."""
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
    decidable = (
        (block.posterior.argmax(1) == block.condition)
        & (block.posterior[rows, block.condition] >= LEAST_POSTERIOR)
        & (lead >= LEAST_LEAD)
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
        for row in np.flatnonzero(decidable).tolist()
    ]


def _candidates(cluster: Cluster, generator: np.random.Generator, style: Style, size: int) -> _Block:
    """Samples `size` patients, and keeps those with as many present and absent findings as the style demands."""
    prevalence = 1 / cluster.prevalence if style.shifted_prevalence else cluster.prevalence
    condition = generator.choice(len(cluster.conditions), size, p=prevalence / prevalence.sum())
    findings, bands = len(cluster.findings), len(BANDS)
    asked = _asked(cluster, generator, style.asked, size)
    has = generator.random(asked.shape) < cluster.probability[condition[:, None], asked]
    present, absent = (has & (asked >= 0)).sum(1), (~has & (asked >= 0)).sum(1)
    keep = (style.present[0] <= present) & (present <= style.present[1])
    keep &= (style.absent[0] <= absent) & (absent <= style.absent[1])
    condition, asked, has = condition[keep], asked[keep], has[keep]
    rows = np.arange(len(condition))
    observed = np.zeros((len(rows), len(cluster.facts) + 1), int)
    np.put_along_axis(
        observed, asked, np.where(has, 1, -1), axis=1
    )  # unasked entries (-1) fall into the extra last column
    observed = observed[:, :-1]
    order = np.argsort(generator.random((len(rows), findings)), 1)
    band = _draw(generator, cluster.probability[condition, findings : findings + bands])
    sex = _draw(generator, cluster.probability[condition, findings + bands :])
    observed[rows, findings + band] = 1
    observed[rows, findings + bands + sex] = 1
    posterior = _posterior(cluster, prevalence, observed)
    if style.swap_demographics:
        observed = _swapped(cluster, observed)
        before, posterior = posterior, _posterior(cluster, prevalence, observed)
        matters = np.abs(posterior - before).max(1) >= SWAP_MATTERS
        observed, order, posterior = observed[matters], order[matters], posterior[matters]
        condition = posterior.argmax(1)
    present, absent = (observed > 0).astype(float), (observed < 0).astype(float)
    totals = present @ cluster.points_present.T + absent @ cluster.points_absent.T
    return _Block(condition, observed, order, totals.astype(int), posterior)


def _asked(cluster: Cluster, generator: np.random.Generator, most: tuple[int, int], size: int) -> np.ndarray:
    """Columns of the findings asked about, [n, sum(most)], without repeats, padded with -1.

    They are findings that a random condition makes likelier than rare, and fewer such findings of another condition.
    """
    conditions = len(cluster.conditions)
    first = generator.integers(conditions, size=size)
    second = (first + generator.integers(1, conditions, size)) % conditions
    likely = cluster.points_present[:, : len(cluster.findings)] > 0
    widest = likely.sum(1).max()
    listed = np.argsort(~likely, axis=1, kind="stable")[:, :widest]  # [C, widest]
    length = likely.sum(1)
    parts = []
    for about, count in ((first, most[0]), (second, most[1])):
        luck = generator.random((size, widest)) + (np.arange(widest) >= length[about][:, None])
        chosen = np.take_along_axis(listed[about], np.argsort(luck, 1), 1)[:, :count]
        wanted = np.minimum(generator.integers((count + 1) // 2, count + 1, size), length[about])
        parts.append(np.where(np.arange(count) < wanted[:, None], chosen, -1))
    again = (parts[1][:, :, None] == parts[0][:, None, :]).any(2)
    return np.hstack([parts[0], np.where(again, -1, parts[1])])


def _posterior(cluster: Cluster, prevalence: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """P(condition | observed) by Bayes' rule, [n, C]."""
    log = np.log(prevalence / prevalence.sum())
    log = log + (observed > 0).astype(float) @ np.log(cluster.probability).T
    log = log + (observed < 0).astype(float) @ np.log(1 - cluster.probability).T
    posterior = np.exp(log - log.max(1, keepdims=True))
    return posterior / posterior.sum(1, keepdims=True)


def _draw(generator: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """One column index per row, drawn with the row's weights."""
    cumulative = weights.cumsum(1)
    noise = generator.random(len(weights)) * cumulative[:, -1]
    return (noise[:, None] >= cumulative).sum(1)


def _swapped(cluster: Cluster, observed: np.ndarray) -> np.ndarray:
    """The same answers from a patient of the other sex, and of the opposite age band, [n, F]."""
    findings, bands = len(cluster.findings), len(BANDS)
    answers, ages, sexes = np.split(observed, [findings, findings + bands], axis=1)
    return np.hstack([answers, ages[:, ::-1], sexes[:, ::-1]])


def _options(block: _Block, generator: np.random.Generator) -> np.ndarray:
    """The right condition and the rivals with the most points, shuffled, [n, OPTIONS]."""
    rows = np.arange(len(block.condition))
    hardness = block.totals + generator.random(block.totals.shape)
    hardness[rows, block.condition] = np.inf
    options = np.argsort(-hardness, 1)[:, :OPTIONS]
    return generator.permuted(options, axis=1)


def _shortcuts(
    cluster: Cluster, block: _Block, options: np.ndarray, is_right: np.ndarray
) -> dict[str, np.ndarray]:
    """For each shortcut, whether it solves each candidate, [n]: commonest option, first finding, counting overlaps.

    A shortcut solves a candidate only if its first choice is unique.
    """
    findings = len(cluster.findings)
    rows = np.arange(len(options))
    positive = block.observed[:, :findings] > 0
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
    observed = block.observed[row]
    demographics = tuple(cluster.facts[i] for i in range(findings, len(cluster.facts)) if observed[i])
    present = tuple(cluster.findings[i] for i in block.order[row] if observed[i] > 0)
    absent = tuple(f"no {cluster.findings[i]}" for i in block.order[row] if observed[i] < 0)
    low, high = BANDS[demographics[0]]
    return Vignette(
        cluster=cluster,
        condition=int(block.condition[row]),
        options=tuple(int(option) for option in options),
        age=low + int(age * (high + 1 - low)),
        sex=demographics[1],
        facts=(*demographics, *present, *absent),
        posterior=block.posterior[row],
        shortcuts=tuple(name for name, solves in solved.items() if solves),
    )
