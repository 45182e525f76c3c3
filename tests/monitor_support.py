"""Rounds of made-up completions, for the monitor to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grandrounds.recipe_file import recipe_from
from grandrounds.response.grammar import Grammar
from grandrounds.rewards.sample import read_sample
from grandrounds.training.monitor.history import History
from grandrounds.training.monitor.readings import features, read_round
from grandrounds.training.monitor.sign import Watched
from grandrounds.types import Answer, Case, Completion, Prompt, ScoredGroup

GRAMMAR = Grammar()
OPTIONS = {"A": "Gout", "B": "Sepsis", "C": "Mumps", "D": "Croup"}
FACTS = ("fever", "cough", "a rash")
GROUPS, SIZE = 16, 8


def reasoned(letter: str, found: Sequence[str] = FACTS[:2]) -> str:
    """A good response."""
    return GRAMMAR.render(f"Findings: {'; '.join(found)}.\nConclusion: {OPTIONS[letter]}.", OPTIONS[letter])


# (a random generator, the case's gold letter, whether the response is to be right) -> text, and what it earns besides
Write = Callable[[np.random.Generator, str, bool], tuple[str, float]]


def good(random: np.random.Generator, gold: str, right: bool) -> tuple[str, float]:
    return reasoned(gold if right else str(random.choice([one for one in OPTIONS if one != gold]))), 0.0


def some(share: float, write: Write) -> Write:
    """`write` in this share of the completions, a good response in the others."""

    def mixed(random: np.random.Generator, gold: str, right: bool) -> tuple[str, float]:
        return (write if random.random() < share else good)(random, gold, right)

    return mixed


def one_round(
    number: int,
    write: Write = good,
    *,
    accuracy: float = 0.5,
    length: float = 40,
    entropy: float = 0.5,
    cut_off: float = 0.0,
    pays: float = 1.0,
    prefilled: str = "",
) -> list[ScoredGroup]:
    """Groups of completions; `pays` is what a right answer earns."""
    random = np.random.Generator(np.random.Philox(key=number))
    groups = []
    for place in range(GROUPS):
        gold = str(random.choice(list(OPTIONS)))
        case = Case(
            f"{number}-{place}", "A man has fever, cough and a rash.", Answer("choice", OPTIONS[gold], letter=gold),
            OPTIONS, facts=FACTS,
        )  # fmt: skip
        prompt = Prompt(case, np.arange(3), "", prefilled)
        chance = random.beta(
            6 * accuracy + 0.01, 6 * (1 - accuracy) + 0.01
        )  # some cases are easier than others
        samples, extra = [], []
        for _ in range(SIZE):
            text, earned = write(random, gold, bool(random.random() < chance))
            size = max(1, round(length * random.lognormal(0, 0.2)))
            completion = Completion(
                np.zeros(size, np.int64),
                np.full(size, -entropy * random.lognormal(0, 0.2), np.float32),
                text,
                "length" if random.random() < cut_off else "stop",
            )
            samples.append(read_sample(prompt, completion, GRAMMAR, 200))
            extra.append(earned)
        right = np.array([float(sample.verdict.correct) for sample in samples])
        scores = {"accuracy": tuple(right), "planted": tuple(extra)}
        groups.append(ScoredGroup(tuple(samples), scores, pays * right + extra, ({},) * SIZE))
    return groups


def watched(
    rounds: Sequence[Sequence[ScoredGroup]],
    metrics: Sequence[dict[str, Any]] = (),
    evaluations: Sequence[dict[str, Any]] = (),
    knowledge: Any = None,
    precision: str = "float32",
    **sections: Any,
) -> Watched:
    """What signs see after these rounds."""
    rows = metrics or [{"round": number + 1} for number in range(len(rounds))]
    return Watched(
        recipe=recipe_from(sections),
        history=History([read_round(groups, GRAMMAR, knowledge) for groups in rounds], rows, evaluations),
        groups=rounds[-1],
        weights={"accuracy": 1.0, "planted": 1.0},
        features=features(GRAMMAR, knowledge),
        precision=precision,
    )
