"""Cases and samples for the tests of rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from grandrounds.recipe import RewardRecipe
from grandrounds.response import Grammar
from grandrounds.rewards import RewardSet, build_rewards, read_sample
from grandrounds.types import Answer, Case, Completion, FinishReason, Message, Prompt, Sample

OPTIONS = {
    "A": "Myocarditis",
    "B": "Pericarditis",
    "C": "Acute myocardial infarction",
    "D": "Diabetes mellitus",
    "E": "Pulmonary hypertension",
}


def choice_case(letter: str = "B", options: Mapping[str, str] = OPTIONS, **changes: Any) -> Case:
    fields = {
        "id": "case 1",
        "question": "A man has sharp chest pain, better when leaning forward. He denies cough or fever.",
        "gold": Answer("choice", options[letter], letter),
        "options": options,
    }
    return Case(**{**fields, **changes})


def open_case(gold: Answer, **changes: Any) -> Case:
    return Case(**{"id": "case 1", "question": "What is it?", "gold": gold, **changes})


def sample(
    case: Case,
    text: str,
    *,
    length: int = 10,
    finish: FinishReason = "stop",
    max_new_tokens: int = 100,
    grammar: Grammar | None = None,
) -> Sample:
    messages = (Message("user", case.question),) if isinstance(case.question, str) else case.question
    prompt = Prompt(case, np.arange(3), "", messages=messages)
    completion = Completion(np.arange(length), np.zeros(length, np.float32), text, finish)
    return read_sample(prompt, completion, grammar or Grammar(), max_new_tokens)


def answered(case: Case, reasoning: str, answer: str, **changes: Any) -> Sample:
    return sample(case, Grammar().render(reasoning, answer), **changes)


def rewards(**specs: Any) -> RewardSet:
    return build_rewards({name: RewardRecipe(**spec) for name, spec in specs.items()})


def score(name: str, one: Sample, **options: Any) -> float | None:
    return rewards(**{name: {"options": options}}).parts[name].component.scores([one])[0].value
