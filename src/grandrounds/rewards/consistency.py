"""Consistency: the answer is what the reasoning concludes.

A reasoning without a conclusion scores 0, as an outline and as prose. If the component did not apply to it, leaving out
the conclusion would be the easiest way never to contradict it.
"""

from __future__ import annotations

from grandrounds.response.grammar import Response
from grandrounds.rewards.choice import read_choice, read_choices
from grandrounds.rewards.layers import same_text
from grandrounds.rewards.matching import LONGEST_ANSWER, read_label
from grandrounds.rewards.numbers import read_number
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.rewards.text import mentioned
from grandrounds.rewards.units import equal_numbers
from grandrounds.types import Case, Sample


def consistency(context: RewardContext) -> Scorer:
    """1 where the answer is what the reasoning concludes, else 0."""

    def score(sample: Sample) -> Score:
        agrees = consistent(sample.response, sample.case)
        return Score(float(agrees is True), "no conclusion" if agrees is None else None)

    return score


def consistent(response: Response, case: Case) -> bool | None:
    """Whether the answer is what the reasoning concludes. None where no conclusion can be read."""
    conclusion, answer = response.outline.conclusion, response.answer
    if not conclusion:
        return None
    conclusion = conclusion[:LONGEST_ANSWER]
    if not answer or len(answer) > LONGEST_ANSWER:
        return False
    if case.gold.kind == "choice" and case.options:
        concluded = _concluded_option(conclusion, case)
        return None if concluded is None else concluded == read_choice(answer, case.options)[0]
    if case.gold.kind == "choices":
        several = read_choices(conclusion, case.options)
        return None if several is None else several == read_choices(answer, case.options)
    if case.gold.kind == "number":
        return _same_number(conclusion, answer, case)
    if case.gold.kind == "label":
        concluded = read_label(conclusion, case.gold)
        return None if concluded is None else concluded == read_label(answer, case.gold)
    return same_text(conclusion, answer) is not None or mentioned(conclusion, {"answer": answer}) != []


def _concluded_option(conclusion: str, case: Case) -> str | None:
    """The option that a conclusion names, or else the last one that it mentions and does not deny."""
    letter, _ = read_choice(conclusion, case.options)
    if letter is not None:
        return letter
    return next(iter(reversed(mentioned(conclusion, case.options))), None)


def _same_number(conclusion: str, answer: str, case: Case) -> bool | None:
    concluded, given = read_number(conclusion), read_number(answer)
    if concluded is None:
        return None
    if given is None:
        return False
    unit = given[1] or case.gold.unit
    return equal_numbers(concluded, given[0], unit, case.gold.tolerance)[0]
