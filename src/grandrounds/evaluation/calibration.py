"""Calibration: is a policy as often right as it is sure?

Confidence is self-consistency: of k sampled answers to a case, the share that agree with the most frequent one. It is
right if that answer is. Answers that mean the same vote together; one that cannot be read agrees with none, but counts
among the k. Where several answers are equally frequent, its rightness is the share of right ones among them.

    expected calibration error   sum over c of n_c / n |accuracy_c - c|      Guo et al. 2017, arXiv:1706.04599
    Brier score                  mean of (right - confidence)²               Brier 1950
    risk-coverage curve          share of errors among the surest cases      El-Yaniv & Wiener 2010, JMLR 11

A bin is one possible share, j / k, so that no choice of bins changes the error. The error of few cases is not 0 even
for a perfectly calibrated policy; `chance_error` says what it would be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grandrounds.evaluation.result import CaseResult, Evaluation
from grandrounds.evaluation.statistics import Interval, keyed_generator, maj_at_k, wilson

SIMULATIONS = 1000


@dataclass(frozen=True)
class Vote:
    """One case: the confidence of its most frequent answer, and whether that is right (a fraction for ties)."""

    case_id: str
    confidence: float
    right: float


@dataclass(frozen=True)
class Level:
    """The cases of one confidence."""

    confidence: float
    count: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Coverage:
    """The surest cases, down to a confidence: their share of all cases, and how often they are wrong."""

    confidence: float
    count: int
    coverage: float
    risk: float
    interval: Interval


@dataclass(frozen=True)
class Calibration:
    """All of it for one policy. samples: k. levels, coverage: from the surest down.

    area: mean risk over all coverages (AURC); the error rate is what an order by lot would have.
    """

    samples: int
    votes: tuple[Vote, ...]
    levels: tuple[Level, ...]
    coverage: tuple[Coverage, ...]
    error: float
    chance_error: float
    brier: float
    area: float

    @property
    def accuracy(self) -> float:
        """How often the most frequent answer is right."""
        return float(np.mean([vote.right for vote in self.votes]))

    @property
    def confidence(self) -> float:
        """The mean confidence."""
        return float(np.mean([vote.confidence for vote in self.votes]))


def calibration(evaluation: Evaluation, *, seed: int = 0) -> Calibration | None:
    """The calibration of an evaluation with several answers to each case; None for one answer each."""
    if evaluation.samples < 2:
        return None
    votes = tuple(_vote(case) for case in evaluation.cases)
    return of_votes(votes, evaluation.samples, seed=seed)


def of_votes(votes: Sequence[Vote], samples: int, *, seed: int = 0) -> Calibration:
    """The calibration of these votes, one or more."""
    confidence = np.array([vote.confidence for vote in votes])
    right = np.array([vote.right for vote in votes])
    levels = _levels(votes)
    return Calibration(
        samples=samples,
        votes=tuple(votes),
        levels=levels,
        coverage=_coverage(levels),
        error=_error(confidence, right),
        chance_error=_chance_error(confidence, seed),
        brier=float(((right - confidence) ** 2).mean()),
        area=_area(levels),
    )


def _vote(case: CaseResult) -> Vote:
    given = [answer.given for answer in case.answers]
    counts = Counter(answer for answer in given if answer is not None)
    most = max(counts.values(), default=0)
    right = maj_at_k(given, [answer.correct for answer in case.answers])
    return Vote(case.id, most / len(given), right)


def _levels(votes: Sequence[Vote]) -> tuple[Level, ...]:
    by_confidence: dict[float, list[float]] = defaultdict(list)
    for vote in votes:
        by_confidence[vote.confidence].append(vote.right)
    return tuple(
        Level(confidence, len(rights), float(np.mean(rights)), wilson(sum(rights), len(rights)))
        for confidence, rights in sorted(by_confidence.items(), reverse=True)
    )


def _coverage(levels: Sequence[Level]) -> tuple[Coverage, ...]:
    total, count, errors, found = sum(level.count for level in levels), 0, 0.0, []
    for level in levels:
        count += level.count
        errors += level.count * (1 - level.accuracy)
        errors = min(errors, float(count))
        risk = errors / count
        found.append(Coverage(level.confidence, count, count / total, risk, wilson(errors, count)))
    return tuple(found)


def _area(levels: Sequence[Level]) -> float:
    """Mean over i = 1 … n of the expected risk of the i surest cases, those of one confidence in an order by lot."""
    count, errors, risks = 0, 0.0, []
    for level in levels:
        risk = 1 - level.accuracy
        risks += [(errors + step * risk) / (count + step) for step in range(1, level.count + 1)]
        count, errors = count + level.count, errors + level.count * risk
    return float(np.mean(risks))


def _error(confidence: np.ndarray, right: np.ndarray) -> float:
    """confidence [n], right [n] or [draws, n]; the error, or the mean error over draws."""
    gaps = right - confidence
    of_level = [np.abs(gaps[..., confidence == level].sum(-1)) for level in np.unique(confidence)]
    return float(np.mean(np.sum(of_level, axis=0)) / len(confidence))


def _chance_error(confidence: np.ndarray, seed: int) -> float:
    """The mean error of a policy that is right exactly as often as it is sure, on as many cases."""
    drawn = keyed_generator((seed, "calibration")).random((SIMULATIONS, len(confidence)))
    return _error(confidence, (drawn < confidence).astype(float))
