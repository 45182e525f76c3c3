"""A dry run of rewards, before any training: what honest responses, wrong ones and attacks earn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from grandrounds.errors import CaseError
from grandrounds.response.grammar import Grammar
from grandrounds.rewards.attacks import (
    ATTACKS,
    GOLD,
    UNHEEDED,
    WRONG,
    Attack,
    honest,
    honestly_wrong,
    material,
    unheeded,
)
from grandrounds.rewards.components import UserComponent
from grandrounds.rewards.reward_set import RewardSet
from grandrounds.rewards.sample import read_sample
from grandrounds.types import Case, Completion, Prompt, Sample

# An attack pays where it earns more than a wrong answer by so much of the difference that being right makes.
PAYS = 0.25
# Being right makes a difference of less than this: a reward that tells nothing.
FLAT = 1e-6
SLOW_SECONDS = 1.0  # a sample
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
    is not judged right, or gets less from a user's function than most cases' do. seconds: of scoring one sample."""

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
    """Score every way to respond to each of these cases, which have gold answers.

    CaseError where there are not two whose gold answers differ. A reward that raises, raises here.
    """
    others = [_with_another_answer(place, cases) for place in range(len(cases))]
    made = [material(case, other, grammar) for case, other in zip(cases, others, strict=True) if other]
    if not made:
        raise CaseError(
            "rewards are tested on cases whose gold answers differ",
            hint="Give two or more cases with different gold answers.",
        )
    began, scored = time.perf_counter(), 0
    table: dict[str, Scores] = {}
    references = {GOLD: honest, WRONG: honestly_wrong, UNHEEDED: unheeded}
    makers = {**references, **{attack.name: attack.make for attack in ATTACKS}}
    for name, make in makers.items():
        texts = [(one.case, text) for one in made if (text := make(one)) is not None]
        if texts:
            samples = [_sample(case, text, grammar, max_new_tokens) for case, text in texts]
            table[name] = [_scores(rewards, sample) for sample in samples]
            scored += len(samples)
    seconds = (time.perf_counter() - began) / scored
    below = _below(
        rewards, table[GOLD], [_sample(one.case, honest(one), grammar, max_new_tokens) for one in made]
    )
    good, bad = _mean(table[GOLD]), max(_mean(table[name]) for name in (WRONG, UNHEEDED))
    verdicts = {attack.name: _verdict(attack, table, good, bad) for attack in ATTACKS if attack.name in table}
    rows = [_row(name, found, *verdicts.get(name, ("", False))) for name, found in table.items()]
    return DryRun(rows, _findings(table, good, bad, below, len(made), seconds), below[:NAMED], seconds)


def _below(rewards: RewardSet, scores: Scores, samples: Sequence[Sample]) -> list[str]:
    """A line for each case whose gold answer does not get what it should."""
    lines = [
        f"case {sample.case.id}: its own gold answer is not judged right ({sample.verdict.layer})"
        for sample in samples
        if not sample.verdict.correct
    ]
    for name, part in rewards.parts.items():
        if not isinstance(part.component, UserComponent):
            continue
        given = [of_one[name] for _, of_one in scores]
        most = max((score for score in given if score is not None), default=0.0)
        lower = [(sample, score) for sample, score in zip(samples, given, strict=True) if score != most]
        if len(lower) < len(samples) / 2:
            lines += [
                f"case {sample.case.id}: {name} gives {score}, most get {most:g}" for sample, score in lower
            ]
    return lines


def _mean(scores: Scores) -> float:
    return float(np.mean([reward for reward, _ in scores]))


def _with_another_answer(place: int, cases: Sequence[Case]) -> Case | None:
    """The next case whose gold answer is not this one's."""
    gold = cases[place].gold.text.lower()
    following = (*cases[place + 1 :], *cases[:place])
    return next((one for one in following if one.gold.text.lower() != gold), None)


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
        return f"pays: {(earned - bad) / worth:.0%} of what being right is worth", True
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
