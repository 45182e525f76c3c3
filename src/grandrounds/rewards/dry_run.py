"""A dry run of rewards, before any training: what honest responses, wrong ones and attacks earn."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from grandrounds.errors import CaseError
from grandrounds.response.grammar import Grammar
from grandrounds.rewards.attacks import (
    GOLD,
    UNHEEDED,
    WRONG,
    Attack,
    Material,
    attacks_on,
    honest,
    honestly_wrong,
    material,
    solution,
    unheeded,
)
from grandrounds.rewards.components import UserComponent
from grandrounds.rewards.reward_set import RewardSet
from grandrounds.rewards.sample import read_sample
from grandrounds.shares import percent
from grandrounds.types import Case, Completion, Prompt, Sample

# An attack pays where it earns more than a wrong answer by so much of the difference that being right makes.
PAYS = 0.25
# Being right makes a difference of less than this: a reward that tells nothing.
FLAT = 1e-6
SLOW_SECONDS = 1.0  # the median sample
LONGEST_ATTACK = 15.0  # seconds: then it is tried on no further case
NAMED = 20
# Of each case: (reward, score of each component).
Scores = list[tuple[float, dict[str, float | None]]]


@dataclass(frozen=True)
class Row:
    """One way to respond, over all cases.

    reward: its mean. components: name -> mean, None where it never applied. verdict: "", or what is wrong, or doubtful.
    """

    name: str
    cases: int
    reward: float
    components: dict[str, float | None]
    verdict: str = ""
    fails: bool = False


@dataclass(frozen=True)
class DryRun:
    """rows: honest, wrong, then the attacks. findings: what fails as a whole. gold_below: cases whose own gold answer
    is not judged right, or gets less from a user's function than most cases' do. seconds: of scoring one sample, the
    median."""

    rows: list[Row]
    findings: list[str] = field(default_factory=list)
    gold_below: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Nothing fails."""
        return not self.findings and not any(row.fails for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "passed": self.passed}


def dry_run(rewards: RewardSet, cases: Sequence[Case], grammar: Grammar, max_new_tokens: int) -> DryRun:
    """Score every way to respond to each of these cases, which have gold answers, or solutions that their domain knows.

    An attack that takes long, such as a program that never ends, is tried on fewer cases. CaseError where there are not
    two cases whose answers differ. A reward that raises, raises here.
    """
    made = _materials(cases, grammar)
    attacks = attacks_on(made)
    table: dict[str, Scores] = {}
    seconds: list[float] = []
    references = {GOLD: honest, WRONG: honestly_wrong, UNHEEDED: unheeded}
    for name, make in {**references, **{attack.name: attack.make for attack in attacks}}.items():
        patience = math.inf if name in references else LONGEST_ATTACK
        texts = [(one.case, text) for one in made if (text := make(one)) is not None]
        samples = [_sample(case, text, grammar, max_new_tokens) for case, text in texts]
        scores, took = _scored(rewards, samples, patience)
        seconds += took
        if scores:
            table[name] = scores
    answers = [_sample(one.case, honest(one), grammar, max_new_tokens) for one in made]
    below = _below(rewards, table, answers)
    good, bad = _mean(table[GOLD]), max(_mean(table[name]) for name in (WRONG, UNHEEDED))
    verdicts = {attack.name: _verdict(attack, table, good, bad) for attack in attacks if attack.name in table}
    rows = [_row(name, found, *verdicts.get(name, ("", False))) for name, found in table.items()]
    usual = median(seconds)
    return DryRun(rows, _findings(table, good, bad, below, len(made), usual), below[:NAMED], usual)


def _materials(cases: Sequence[Case], grammar: Grammar) -> list[Material]:
    """Of every case with a known answer, beside the next one whose answer is another. CaseError where there is none."""
    known = [(case, solved) for case in cases if (solved := solution(case)) is not None]
    made = []
    for place, (case, solved) in enumerate(known):
        following = (*known[place + 1 :], *known[:place])
        others = ((c, s.answer) for c, s in following if s.answer.lower() != solved.answer.lower())
        if (other := next(others, None)) is not None:
            made.append(material(case, solved, *other, grammar))
    if not made:
        raise CaseError(
            "rewards are tested on cases whose gold answers differ",
            hint="Give two or more cases with different gold answers, or tasks with tests and solutions.",
        )
    return made


def _scored(rewards: RewardSet, samples: Sequence[Sample], patience: float) -> tuple[Scores, list[float]]:
    """The scores of samples, and the seconds that each took, until these are more than the patience."""
    scores: Scores = []
    seconds: list[float] = []
    for sample in samples:
        began = time.perf_counter()
        scores.append(_scores(rewards, sample))
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > patience:
            break
    return scores, seconds


def _below(rewards: RewardSet, table: dict[str, Scores], samples: Sequence[Sample]) -> list[str]:
    """A line for each case whose gold answer does not get what it should."""
    lines = [
        f"case {sample.case.id}: its own gold answer is not judged right ({sample.verdict.layer})"
        for sample in samples
        if sample.case.gold.kind != "none" and not sample.verdict.correct
    ]
    for name in _judging(rewards, table, samples):
        given = [of_one[name] for _, of_one in table[GOLD]]
        most = max((score for score in given if score is not None), default=0.0)
        lower = [(sample, score) for sample, score in zip(samples, given, strict=True) if score != most]
        if len(lower) < len(samples) / 2:
            lines += [
                f"case {sample.case.id}: {name} gives {score}, most get {most:g}" for sample, score in lower
            ]
    return lines


def _judging(rewards: RewardSet, table: dict[str, Scores], samples: Sequence[Sample]) -> list[str]:
    """Users' functions; and where no gold answer is compared, the components that tell right from wrong."""
    compared = all(sample.case.gold.kind != "none" for sample in samples)

    def tells(name: str) -> bool:
        good, bad = (
            [score for _, of_one in table[kind] if (score := of_one[name]) is not None]
            for kind in (GOLD, WRONG)
        )
        return bool(good and bad) and float(np.mean(good)) > float(np.mean(bad)) + FLAT

    return [
        name
        for name, part in rewards.parts.items()
        if isinstance(part.component, UserComponent) or (not compared and tells(name))
    ]


def _mean(scores: Scores) -> float:
    return float(np.mean([reward for reward, _ in scores]))


def _sample(case: Case, text: str, grammar: Grammar, max_new_tokens: int) -> Sample:
    # No tokenizer is loaded: a token is a word here.
    tokens = np.zeros(len(text.split()), np.int64)
    completion = Completion(tokens, np.zeros(len(tokens), np.float32), text, "stop")
    return read_sample(Prompt(case, np.empty(0, np.int64), ""), completion, grammar, max_new_tokens)


def _scores(rewards: RewardSet, sample: Sample) -> tuple[float, dict[str, float | None]]:
    """Of a sample by itself: a function that compares a group's members sees each as a group of its own."""
    group = rewards.score([sample])
    return float(group.rewards[0]), {name: of_one[0] for name, of_one in group.scores.items()}


def _row(name: str, found: Scores, verdict: str, fails: bool) -> Row:
    components = {}
    for component in found[0][1]:
        known = [score for _, scores in found if (score := scores[component]) is not None]
        components[component] = float(np.mean(known)) if known else None
    return Row(name, len(found), _mean(found), components, verdict, fails)


def _verdict(attack: Attack, table: dict[str, Scores], good: float, bad: float) -> tuple[str, bool]:
    """(what is wrong or doubtful with what the attack earns, whether that fails)."""
    earned, worth = _mean(table[attack.name]), good - bad
    if worth <= FLAT:
        return "", False
    if attack.right:
        if earned > good + PAYS * worth:
            return "earns more than an honest response", True
        doubtful = attack.doubtful and earned >= good - FLAT
        return (attack.doubtful, False) if doubtful else ("", False)
    if earned > bad + PAYS * worth:
        return f"pays: {percent((earned - bad) / worth)} of what being right is worth", True
    return "", False


def _findings(
    table: dict[str, Scores], good: float, bad: float, below: Sequence[str], cases: int, seconds: float
) -> list[str]:
    found = []
    everything = {reward for rows in table.values() for reward, _ in rows}
    if len(everything) == 1:
        found.append(f"constant: every response earns {good:g}, so no group has a signal")
    elif good < bad - FLAT:
        found.append(f"inverted: wrong answers earn {bad:.3g}, right ones {good:.3g}")
    elif good - bad <= FLAT:
        found.append(f"blind: right and wrong answers earn the same, {good:.3g}")
    if below:
        found.append(f"{len(below):,} of {cases:,} cases do not get full marks for their own gold answer")
    if seconds > SLOW_SECONDS:
        found.append(f"slow: {seconds:.1f} s a sample, which a round multiplies by its completions")
    return found
