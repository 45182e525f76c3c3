"""Finds out where text answers are labels: few, short, and each the answer of many cases (yes / no / maybe)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from grandrounds.types import Case

MOST_LABELS, MOST_WORDS = 10, 3
# Cases that there are of each label: of all of them in the mean, and of the rarest.
MEAN_CASES, FEWEST_CASES = 5, 2


def labels_in(cases: Sequence[Case]) -> list[str]:
    """The labels that all gold answers are, in lower case and in order; empty where they are free text."""
    if any(case.gold.kind != "text" or case.gold.synonyms or case.options for case in cases):
        return []
    counts = Counter(case.gold.text.strip().lower() for case in cases)
    few = 1 < len(counts) <= min(MOST_LABELS, len(cases) / MEAN_CASES)
    short = all(len(text.split()) <= MOST_WORDS for text in counts)
    return sorted(counts) if few and short and min(counts.values()) >= FEWEST_CASES else []


def as_labels(cases: Sequence[Case], labels: Collection[str]) -> list[Case]:
    """The cases, their gold answers being labels where they are among these; each label knows all others."""
    told = {case.gold.text for case in cases if case.gold.kind == "label"}
    every = tuple(sorted({*labels, *told}))
    return [
        replace(case, gold=replace(case.gold, kind="label", labels=every))
        if case.gold.kind == "label"
        or (case.gold.kind == "text" and case.gold.text.strip().lower() in labels)
        else case
        for case in cases
    ]
