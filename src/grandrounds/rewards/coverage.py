"""Differential coverage: the share of the options that the reasoning weighs."""

from __future__ import annotations

from grandrounds.response.grammar import Response
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.rewards.text import normalise, written_out
from grandrounds.types import Case, Sample


def coverage(context: RewardContext) -> Scorer:
    """The share of the options that the reasoning discusses. Does not apply to questions without options."""

    def score(sample: Sample) -> Score:
        if not sample.case.options:
            return Score(None)
        discussed = discussed_options(sample.response, sample.case)
        return Score(
            len(discussed) / len(sample.case.options), sorted(set(sample.case.options) - discussed) or None
        )

    return score


def discussed_options(response: Response, case: Case) -> set[str]:
    """The letters of the options that the reasoning weighs.

    In an outline: a candidate's line with a claim or a total. In prose: any mention, affirmed or denied.
    """
    differential = response.outline.differential
    if differential:
        weighed = {
            written_out(line.name)
            for line in differential
            if line.supports or line.contradicts or line.total is not None
        }
        return {
            letter
            for letter, option in case.options.items()
            if written_out(option) in weighed or normalise(f"{letter}. {option}") in weighed
        }
    left, found = f" {normalise(response.reasoning or '')} ", set()
    names = {letter: normalise(option) for letter, option in case.options.items()}
    for name in sorted(set(names.values()), key=len, reverse=True):
        if name and f" {name} " in left:
            found |= {letter for letter in names if names[letter] == name}
            left = left.replace(f" {name} ", " \0 ")
    return found
