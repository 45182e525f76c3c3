"""The clinic's knowledge as arrays: how likely each finding is in each condition, and its points.

For a condition c and a finding f that is mentioned in a vignette:

    present    P(f | c) by its strength  points = round(ln(P(f | c) / P(rare)) / UNIT)
    absent     1 - P(f | c)              points = round(ln((1 - P(f | c)) / (1 - P(rare))) / UNIT)

Points are the log-likelihood ratio to a condition in which the finding is rare, in steps of UNIT nats. Age band and sex
are findings too. The exact posterior is computed from the probabilities, never from points. Prevalence has no points: a
vignette in which prevalence would change what the points say is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files

import numpy as np

from grandrounds.errors import RecipeError
from grandrounds.loading import did_you_mean

UNIT = 0.75
STRENGTHS = {"hallmark": 0.8, "common": 0.5, "occasional": 0.2, "rare": 0.04}
PREVALENCE = {"common": 4.0, "uncommon": 2.0, "rare": 1.0}
# Bands end at decades, so that the first digit of an age determines its band.
BANDS = {"young": (20, 39), "midlife": (40, 59), "older": (60, 89)}
SEXES = ("man", "woman")
# Probability of the typical band or sex, and of each other one, in a condition that has a typical one. In points: a
# typical age speaks for a condition (+1), an untypical sex against it (-1), the others have 0 points.
TYPICAL_BAND, OTHER_BAND = 0.5, 0.25
TYPICAL_SEX, OTHER_SEX = 0.68, 0.32


@dataclass(frozen=True)
class Cluster:
    """Conditions with similar symptoms. C conditions; F facts: its findings, then the age bands, then the sexes.

    probability: P(fact present | condition), [C, F]. prevalence: relative frequency, [C].
    """

    name: str
    conditions: tuple[str, ...]
    findings: tuple[str, ...]
    probability: np.ndarray
    prevalence: np.ndarray
    typical_band: tuple[str | None, ...]
    typical_sex: tuple[str | None, ...]

    @cached_property
    def facts(self) -> tuple[str, ...]:
        """Names of the columns."""
        return (*self.findings, *BANDS, *SEXES)

    @cached_property
    def points_present(self) -> np.ndarray:
        """Points of each fact if present, int [C, F]."""
        points = np.log(self.probability / self._reference) / UNIT
        return np.round(points).astype(int)

    @cached_property
    def points_absent(self) -> np.ndarray:
        """Points of each fact if absent, int [C, F]. 0 for age and sex: another value's presence implies absence."""
        points = np.log((1 - self.probability) / (1 - self._reference)) / UNIT
        points[:, len(self.findings) :] = 0
        return np.round(points).astype(int)

    @cached_property
    def _reference(self) -> np.ndarray:
        """P(fact present) in a condition in which no finding, age or sex is typical, [F]."""
        rare = np.full(len(self.findings), STRENGTHS["rare"])
        return np.concatenate([rare, np.full(len(BANDS), 1 / len(BANDS)), np.full(len(SEXES), 0.5)])

    def points(self, fact: str, condition: int) -> int:
        """The points of a fact ("fever", "no fever", "older") for a condition. KeyError for an unknown fact."""
        present = not fact.startswith("no ")
        column = self.column[fact.removeprefix("no ")]
        table = self.points_present if present else self.points_absent
        return int(table[condition, column])

    @cached_property
    def column(self) -> dict[str, int]:
        """Fact name -> column."""
        return {fact: i for i, fact in enumerate(self.facts)}

    def posterior(self, facts: Sequence[str]) -> np.ndarray:
        """P(condition | the facts mentioned), [C], by Bayes' rule."""
        log = np.log(self.prevalence / self.prevalence.sum())
        for fact in facts:
            probability = self.probability[:, self.column[fact.removeprefix("no ")]]
            log = log + np.log(1 - probability if fact.startswith("no ") else probability)
        posterior = np.exp(log - log.max())
        return posterior / posterior.sum()


@dataclass(frozen=True)
class World:
    """All clusters, and the phrasings of findings: canonical name -> (…, the held-out phrasing)."""

    clusters: tuple[Cluster, ...]
    phrasings: dict[str, tuple[str, ...]]

    @cached_property
    def by_condition(self) -> dict[str, tuple[Cluster, int]]:
        """Lower-case condition -> its cluster and row."""
        return {
            condition.lower(): (cluster, row)
            for cluster in self.clusters
            for row, condition in enumerate(cluster.conditions)
        }

    def of_complaints(self, names: Sequence[str]) -> World:
        """The clusters of these complaints alone, or all if there are none. RecipeError for an unknown complaint."""
        known = {cluster.name: cluster for cluster in self.clusters}
        for name in names:
            if name not in known:
                raise RecipeError(
                    f"the clinic has no patients with the complaint `{name}`",
                    where="cases.clinic_complaints",
                    hint=did_you_mean(name, known) or f"It has {', '.join(known)}.",
                )
        return replace(self, clusters=tuple(known[name] for name in names)) if names else self


@cache
def world() -> World:
    """The world from `knowledge.yaml`."""
    import yaml

    table = yaml.safe_load(files(__package__).joinpath("knowledge.yaml").read_text(encoding="utf-8"))
    clusters = tuple(_cluster(name, conditions) for name, conditions in table["clusters"].items())
    return World(clusters, {name: tuple(phrases) for name, phrases in table["findings"].items()})


def _cluster(name: str, conditions: dict[str, dict]) -> Cluster:
    listed = [finding for row in conditions.values() for s in STRENGTHS for finding in row.get(s, ())]
    findings = tuple(dict.fromkeys(listed))
    return Cluster(
        name=name,
        conditions=tuple(condition[0].upper() + condition[1:] for condition in conditions),
        findings=findings,
        probability=np.array([_probabilities(row, findings) for row in conditions.values()]),
        prevalence=np.array([PREVALENCE[row["prevalence"]] for row in conditions.values()]),
        typical_band=tuple(row.get("age") for row in conditions.values()),
        typical_sex=tuple(row.get("sex") for row in conditions.values()),
    )


def _probabilities(row: dict, findings: tuple[str, ...]) -> list[float]:
    strength = {finding: s for s in STRENGTHS for finding in row.get(s, ())}
    age, sex = row.get("age"), row.get("sex")
    return [
        *(STRENGTHS[strength.get(finding, "rare")] for finding in findings),
        *(1 / len(BANDS) if age is None else TYPICAL_BAND if band == age else OTHER_BAND for band in BANDS),
        *(0.5 if sex is None else TYPICAL_SEX if one == sex else OTHER_SEX for one in SEXES),
    ]
