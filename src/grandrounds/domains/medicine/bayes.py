"""Naive Bayes over present findings. It is a baseline, chooses hard options, and gives demonstrations their points.

    score(d) = ln p(d) + sum over present findings f of ln p(f|d)
    p(f|d)   = (n_df + 0.05) / (n_d + 0.5)
    points(f, d) = ln(p(f|d) / p(f)), rounded, clipped to [1, 5], where n_df > 0;  p(f) = (n_f + 0.5) / (N + 1)
                 = -1 where n_df = 0

n_d: training cases of label d; n_df: those of them with finding f; n_f: training cases with f; N: all of them.
For pairs never seen together, the ratio would only reflect the numbers of cases of each, so they get -1 point.
Absent findings are not used: in published case reports they depend on the curator more than on the disease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_POINTS, NEVER_SEEN = 5, -1
Record = tuple[str, Sequence[str]]  # a label and the findings present


@dataclass(frozen=True)
class Scores:
    """The model's result for one case, for every label. L labels; F findings of the case, in its order.

    log: [L] log of the joint probability. points: [L, F], whole numbers.
    """

    log: np.ndarray
    points: np.ndarray


class NaiveBayes:
    """Counts of findings by label."""

    def __init__(
        self, labels: Sequence[str], findings: Sequence[str], cases: np.ndarray, counts: np.ndarray
    ) -> None:
        """cases: [L] training cases by label. counts: [L, V] those with each of the V known findings."""
        self.labels = tuple(labels)
        self.findings = tuple(findings)
        self.rows = {label: row for row, label in enumerate(self.labels)}
        self.columns = {finding: column for column, finding in enumerate(self.findings)}
        self._cases = cases
        self._counts = counts

    @classmethod
    def fit(cls, labels: Sequence[str], records: Iterable[Record]) -> NaiveBayes:
        """Count the training records. Every label must occur in `labels`, and each of `labels` at least once."""
        records = list(records)
        findings = sorted({finding for _, present in records for finding in present})
        model = cls(labels, findings, np.zeros(len(labels)), np.zeros((len(labels), len(findings))))
        for label, present in records:
            row = model.rows[label]
            model._cases[row] += 1
            model._counts[row, [model.columns[finding] for finding in set(present)]] += 1
        return model

    def score(self, findings: Sequence[str]) -> Scores:
        """Score a case by its findings. Findings that no training case has are ignored."""
        known = [(place, self.columns[f]) for place, f in enumerate(findings) if f in self.columns]
        places, columns = [place for place, _ in known], [column for _, column in known]
        cases, counts = self._cases, self._counts[:, columns]
        given = (counts + 0.05) / (cases[:, None] + 0.5)
        overall = (counts.sum(axis=0) + 0.5) / (cases.sum() + 1)
        prior = np.log(cases / cases.sum())
        points = np.zeros((len(self.labels), len(findings)), dtype=int)
        seen = np.clip(np.rint(np.log(given / overall)), 1, MOST_POINTS)
        points[:, places] = np.where(counts > 0, seen, NEVER_SEEN)
        log = prior + np.log(given).sum(axis=1)
        return Scores(log=log, points=points)

    def state(self) -> dict[str, Any]:
        """JSON-able state. The counts are sparse: for each label, finding number -> cases."""
        return {
            "labels": list(self.labels),
            "findings": list(self.findings),
            "cases": self._cases.astype(int).tolist(),
            "counts": [{str(c): int(row[c]) for c in np.flatnonzero(row)} for row in self._counts],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> NaiveBayes:
        """The model that `state` was made from."""
        counts = np.zeros((len(state["labels"]), len(state["findings"])))
        for row, sparse in enumerate(state["counts"]):
            for column, number in sparse.items():
                counts[row, int(column)] = number
        return cls(state["labels"], state["findings"], np.asarray(state["cases"], dtype=float), counts)
