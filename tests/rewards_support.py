"""Cases and attempts for the tests of rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grandrounds.recipe import RewardRecipe
from grandrounds.response import Grammar
from grandrounds.rewards import Attempt, RewardSet, build_rewards
from grandrounds.types import Answer, Case, Message

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


def attempt(case: Case, text: str, **changes: Any) -> Attempt:
    fields = {
        "case": case,
        "response": Grammar().parse(text),
        "prompt": _prompt(case),
        "text": text,
        "length": 10,
        "finish": "stop",
        "max_new_tokens": 100,
    }
    return Attempt(**{**fields, **changes})


def _prompt(case: Case) -> tuple[Message, ...]:
    return (Message("user", case.question),) if isinstance(case.question, str) else case.question


def answered(case: Case, reasoning: str, answer: str, **changes: Any) -> Attempt:
    return attempt(case, Grammar().render(reasoning, answer), **changes)


def rewards(**specs: Any) -> RewardSet:
    return build_rewards({name: RewardRecipe(**spec) for name, spec in specs.items()})


def score(name: str, one: Attempt, **options: Any) -> float | None:
    return rewards(**{name: {"options": options}}).parts[name].component.marks([one])[0].value
