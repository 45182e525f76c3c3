"""Checks that the rewards recognise right answers: each case's own gold answer must get the best score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from grandrounds.cases.ask import gold_text
from grandrounds.response.grammar import Grammar
from grandrounds.response.outline import Candidate, Claim, Outline, render_outline
from grandrounds.rewards.reward_set import RewardSet
from grandrounds.rewards.sample import read_sample
from grandrounds.types import Case, Completion, Prompt, Sample


@dataclass(frozen=True)
class Shortfall:
    """A component that does not give a case's gold answer the best score."""

    component: str
    case_id: str
    score: float
    full: float


def validate_rewards(
    rewards: RewardSet, cases: Iterable[Case], grammar: Grammar | None = None
) -> list[Shortfall]:
    """Score a model response for each case. A lower score than the best is a fault of the reward or of the case.

    Components without a known best score (users' own) only must not raise. Leave `validity` out of the rewards: the
    model response makes no claims that are known to be true.
    """
    samples = [gold_sample(case, grammar or Grammar()) for case in cases]
    shortfalls = []
    for name, part in rewards.parts.items():
        best = part.component.best
        for sample, score in zip(samples, part.component.scores(samples), strict=True):
            if best is not None and score.value is not None and score.value < best - 1e-9:
                shortfalls.append(Shortfall(name, sample.case.id, score.value, best))
    return shortfalls


def gold_sample(case: Case, grammar: Grammar) -> Sample:
    """A response that lists the case's facts, weighs its options and gives the gold answer."""
    facts = tuple(_one_phrase(fact) for fact in case.facts)
    options = tuple(_one_phrase(option) for option in case.options.values())
    outline = Outline(
        findings=facts,
        differential=tuple(Candidate(option, supports=(Claim(facts[0], 1),)) for option in options if facts),
        check=None if facts or not options else f"weighed were {' versus '.join(options)}",
        conclusion=gold_text(case),
    )
    text = grammar.render(render_outline(outline), gold_text(case))
    nothing = np.empty(0)
    prompt = Prompt(case, tokens=nothing, text="")
    return read_sample(prompt, Completion(nothing, nothing, text, "stop"), grammar, max_new_tokens=100)


def _one_phrase(text: str) -> str:
    """The text without the characters that separate parts of an outline."""
    return " ".join(text.replace(":", " ").replace(";", " ").split()).rstrip(".")
