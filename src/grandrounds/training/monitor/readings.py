"""What a round's completions show: means over its groups, each with its standard error.

Completions of one group are alike, so the groups are what is independent: every reading is first averaged within each
group, and its error is that of the mean over groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from grandrounds.algorithm.grpo import has_signal
from grandrounds.cases.check import Knowledge
from grandrounds.response.grammar import Defect, Grammar
from grandrounds.response.outline import parse_outline
from grandrounds.rewards.consistency import consistent
from grandrounds.rewards.evidence import cited_findings, in_case
from grandrounds.rewards.text import normalise
from grandrounds.types import Sample, ScoredGroup

REWARD, ACCURACY, SILENT, RIGHT_PAYS = "reward", "accuracy", "silent", "right_pays"
LENGTH, CUT_OFF, ENTROPY = "length", "cut_off", "entropy"
OUTSIDE, AHEAD, REPEATED = "text_outside", "answer_ahead", "tag_repetition"
INVENTED, VALID, CONSISTENT = "invented", "valid_given_correct", "consistent_given_correct"
LETTER = "letter/"
# A tag in a reasoning that rehearses its answer occurs twice; beyond that it is repeated.
MOST_TAGS = 2
# Labels of a question without options: yes, no, maybe.
LABELLED = ("yes", "no", "maybe")

Feature = Callable[[Sample], float | None]


class Reading(NamedTuple):
    """A mean over groups, its standard error, and the number of groups."""

    mean: float
    error: float
    groups: int


def read_round(
    groups: Sequence[ScoredGroup], grammar: Grammar, knowledge: Knowledge | None
) -> dict[str, Reading]:
    """All readings of one round by name; those that apply to none of its completions are left out."""
    by_name: dict[str, list[float]] = {
        REWARD: [float(group.rewards.mean()) for group in groups],
        RIGHT_PAYS: [gain for group in groups if (gain := right_pays(group)) is not None],
        SILENT: [float(not has_signal(group) and not all_correct(group)) for group in groups],
    }
    for name, feature in features(grammar, knowledge).items():
        by_name[name] = _means(groups, feature)
    for letter in _letters(groups):
        by_name[LETTER + letter] = _means(groups, excess(letter))
    return {name: reading(values) for name, values in by_name.items() if len(values) > 1}


def reading(values: Sequence[float]) -> Reading:
    """The mean of groups' values [N], N > 1, and its standard error."""
    return Reading(
        float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values))), len(values)
    )


def features(grammar: Grammar, knowledge: Knowledge | None) -> dict[str, Feature]:
    """What is read off single completions. None: it does not apply to this one."""
    found: dict[str, Feature] = {
        ACCURACY: lambda sample: float(sample.verdict.correct) if sample.case.gold.kind != "none" else None,
        LENGTH: lambda sample: float(sample.length),
        CUT_OFF: lambda sample: float(sample.finish == "length"),
        # The mean of -log p over sampled tokens estimates the entropy that they were sampled with.
        ENTROPY: lambda sample: -float(np.mean(sample.completion.logprobs)) if sample.length else None,
        OUTSIDE: text_outside,
        AHEAD: answer_ahead,
        REPEATED: lambda sample: tags_repeated(sample, grammar),
        INVENTED: invented,
        CONSISTENT: lambda sample: _consistent(sample) if sample.verdict.correct else None,
    }
    if knowledge is not None:
        found[VALID] = lambda sample: _valid(sample, knowledge) if sample.verdict.correct else None
    return found


def right_pays(group: ScoredGroup) -> float | None:
    """How much more reward right completions have than wrong ones; None where all are right, or all wrong."""
    right = np.array([sample.verdict.correct for sample in group.samples])
    if right.all() or not right.any():
        return None
    return float(group.rewards[right].mean() - group.rewards[~right].mean())


def text_outside(sample: Sample) -> float | None:
    """Whether there is text outside of the tags. A completion that was cut off has no closed tags to be outside of."""
    if sample.finish == "length":
        return None
    return float(Defect.text_outside_tags in sample.response.defects)


def answer_ahead(sample: Sample) -> float:
    """Whether the answer is given before the reasoning, inside it, or by its first line while more lines follow."""
    if {Defect.wrong_order, Defect.tag_nested} & set(sample.response.defects):
        return 1.0
    lines = [line for line in (sample.response.reasoning or "").splitlines() if line.strip()]
    return float(len(lines) > 1 and parse_outline(lines[0]).conclusion is not None)


def tags_repeated(sample: Sample, grammar: Grammar) -> float:
    """Whether there is a second reasoning or answer, or one tag more often than any use of it explains."""
    repeated = {Defect.reasoning_repeated, Defect.answer_repeated} & set(sample.response.defects)
    return float(bool(repeated) or grammar.most_of_a_tag(sample.response.text) > MOST_TAGS)


def invented(sample: Sample) -> float | None:
    """The share of cited findings that the case does not have; None where none are cited."""
    cited = cited_findings(sample.response.outline)
    if not cited:
        return None
    return sum(not in_case(finding, sample.case) for finding in cited) / len(cited)


def excess(letter: str) -> Feature:
    """Where this option or label is wrong: how much more often it is answered than an even spread of wrong answers.

        [given = letter] - [given is wrong] / (options - 1)

    So neither accuracy nor how often the letter is right moves it.
    """

    def of(sample: Sample) -> float | None:
        options = len(sample.case.options) or len(LABELLED)
        if sample.verdict.given is None or _gold(sample) == letter or options < 2:
            return None
        return float(sample.verdict.given == letter) - float(not sample.verdict.correct) / (options - 1)

    return of


def all_correct(group: ScoredGroup) -> bool:
    """Whether every completion is right. Such a group is silent because its case is solved."""
    return all(sample.verdict.correct for sample in group.samples)


def _consistent(sample: Sample) -> float:
    return float(consistent(sample.response, sample.case) is True)


def _valid(sample: Sample, knowledge: Knowledge) -> float:
    return float(knowledge.check(sample.case, sample.response.outline).valid)


def _gold(sample: Sample) -> str | None:
    """What `Verdict.given` is for a right answer; None for kinds of answers that are not one of a fixed few."""
    gold = sample.case.gold
    if gold.kind == "choice":
        return gold.letter
    return normalise(gold.text) if gold.kind == "label" else None


def _letters(groups: Iterable[ScoredGroup]) -> list[str]:
    """The letters or labels that are right for some case of the round, in order."""
    return sorted({gold for group in groups if (gold := _gold(group.samples[0])) is not None})


def _means(groups: Iterable[ScoredGroup], feature: Feature) -> list[float]:
    """The feature's mean in each group that it applies to."""
    known = (
        [value for sample in group.samples if (value := feature(sample)) is not None] for group in groups
    )
    return [float(np.mean(values)) for values in known if values]


def to_json(readings: Mapping[str, Reading]) -> dict[str, list[float]]:
    """Name -> [mean, standard error, groups]."""
    return {name: list(one) for name, one in readings.items()}


def from_json(readings: Mapping[str, Sequence[float]]) -> dict[str, Reading]:
    """What `to_json` made."""
    return {name: Reading(mean, error, int(groups)) for name, (mean, error, groups) in readings.items()}
