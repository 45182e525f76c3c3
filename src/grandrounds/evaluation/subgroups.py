"""Accuracy within groups of cases."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from grandrounds.evaluation.result import CaseResult, Subgroup
from grandrounds.evaluation.statistics import Interval, Share, clopper_pearson, effective_count, wilson

# Right answers that get a group of their own, the most frequent first; the rest are one group.
MOST_ANSWERS = 11
OTHERS = "all others"
RIGHT_ANSWER, RIGHT_OPTION, LENGTH = "right answer", "option that is right", "length of the case"


def accuracy_of(cases: Sequence[CaseResult]) -> Share:
    """Accuracy with Wilson's interval. Several answers per case count as their effective number."""
    means = np.array([case.share_correct for case in cases])
    samples = len(cases[0].answers)
    worth, mean = effective_count(means, samples), float(means.mean())
    return Share(mean, len(cases) * samples, wilson(min(mean * worth, worth), worth))


def subgroups(
    cases: Sequence[CaseResult], labels: Callable[[CaseResult], Mapping[str, str]]
) -> tuple[Subgroup, ...]:
    """Subgroups by label (name -> value) in order of appearance, then by value: alphabetically, numbers by size."""
    members: dict[str, dict[str, list[CaseResult]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        for name, value in labels(case).items():
            members[name][str(value)].append(case)
    groups = []
    for name, values in members.items():
        for value, chosen in sorted(values.items(), key=lambda item: _in_order(item[0])):
            accuracy = accuracy_of(chosen)
            groups.append(Subgroup(name, value, len(chosen), accuracy.value, accuracy.interval))
    return tuple(groups)


def _in_order(value: str) -> list[str | int]:
    """What sorts "2 to 11" before "12 to 17": text and numbers in turn."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d{1,18})", value))]


def labels_of_content(cases: Sequence[CaseResult]) -> dict[str, dict[str, str]]:
    """Case id -> what can be said of any case: its right answer, the option that is right, and its length.

    Right answers only where they repeat, and then the most frequent ones. Lengths are thirds of these cases.
    """
    answers = {case.id: _answer(case) for case in cases}
    counts = Counter(answer for _, answer in answers.values())
    # Two cases to an answer on average, or the groups are single cases.
    frequent = (
        {answer for answer, _ in counts.most_common(MOST_ANSWERS)} if 2 * len(counts) <= len(cases) else set()
    )
    sizes = {case.id: len(case.question.split()) for case in cases}
    ends = [int(np.quantile(list(sizes.values()), share)) for share in (1 / 3, 2 / 3)]
    found: dict[str, dict[str, str]] = {}
    for case in cases:
        letter, answer = answers[case.id]
        labels = {RIGHT_ANSWER: answer if answer in frequent else OTHERS} if frequent else {}
        if letter:
            labels[RIGHT_OPTION] = letter
        labels[LENGTH] = _third(sizes[case.id], ends)
        found[case.id] = labels
    return found


def gold_letter(case: CaseResult) -> str:
    """The letter of the right option; "" where there is none, or where several are right."""
    return next((letter for letter, text in case.options.items() if case.gold == f"{letter}. {text}"), "")


def _answer(case: CaseResult) -> tuple[str, str]:
    """(letter of the right option or "", right answer)."""
    letter = gold_letter(case)
    return letter, case.options.get(letter, case.gold)


def _third(size: int, ends: Sequence[int]) -> str:
    if size <= ends[0]:
        return f"1 short: up to {ends[0]:,} words"
    if size <= ends[1]:
        return f"2 middle: up to {ends[1]:,} words"
    return f"3 long: more than {ends[1]:,} words"


def simultaneous_interval(group: Subgroup, comparisons: int) -> Interval:
    """The group's interval where all of so many intervals are to hold at once (Bonferroni): wider than 95 %.

    An exact one: so far out, Wilson's would find a group of one right case better than a tenth.
    """
    return clopper_pearson(group.accuracy * group.count, group.count, 0.05 / comparisons)
