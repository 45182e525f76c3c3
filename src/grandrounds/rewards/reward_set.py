"""All components of a recipe together: one reward for each attempt."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.response.check import Knowledge
from grandrounds.rewards.accuracy import accuracy
from grandrounds.rewards.attempt import Attempt, BuiltIn, Scores, Surroundings
from grandrounds.rewards.components import BuiltInComponent, Component, UserComponent
from grandrounds.rewards.consistency import consistency
from grandrounds.rewards.coverage import coverage
from grandrounds.rewards.evidence import evidence
from grandrounds.rewards.format import form
from grandrounds.rewards.length import length
from grandrounds.rewards.repetition import repetition
from grandrounds.rewards.user import did_you_mean, load_function
from grandrounds.rewards.validity import validity

BUILT_IN: dict[str, BuiltIn] = {
    "accuracy": BuiltIn(accuracy),
    "format": BuiltIn(form),
    "consistency": BuiltIn(consistency),
    "evidence": BuiltIn(evidence),
    "validity": BuiltIn(validity),
    "coverage": BuiltIn(coverage),
    "length": BuiltIn(length, best=0.0),
    "repetition": BuiltIn(repetition, best=None),
}


@dataclass(frozen=True)
class Weighted:
    """A component and what it does to the reward."""

    component: Component
    weight: float
    gate: bool


@dataclass(frozen=True)
class RewardSet:
    """Components by name.

        reward = (sum over components of weight * score) * (product over gates of score)

    A component that does not apply to an attempt (None) is left out of the sum, a gate that does not apply
    out of the product. If no component of the sum applies, there is nothing to learn from: RewardError. A
    gate's score multiplies whatever the sum is, so a gate of 0 also cancels penalties.
    """

    parts: Mapping[str, Weighted]

    def score(self, attempts: Sequence[Attempt]) -> Scores:
        """Judge a whole round, in order; RewardError names the component and case where judging fails."""
        marks = {name: part.component.marks(attempts) for name, part in self.parts.items()}
        components = {name: [mark.value for mark in of_one] for name, of_one in marks.items()}
        notes: list[dict[str, Any]] = [
            {name: of_one[i].note for name, of_one in marks.items() if of_one[i].note is not None}
            for i in range(len(attempts))
        ]
        rewards = [
            self._combine({name: values[i] for name, values in components.items()}, attempt)
            for i, attempt in enumerate(attempts)
        ]
        return Scores(components, rewards, notes)

    def _combine(self, scores: Mapping[str, float | None], attempt: Attempt) -> float:
        known = {name: score for name, score in scores.items() if score is not None}
        summands = [
            self.parts[name].weight * score for name, score in known.items() if not self.parts[name].gate
        ]
        if not summands:
            raise RewardError(
                "no reward applies: every component of the sum is None",
                where=f"case {attempt.case.id}",
                hint="Add a component that applies to every case, such as accuracy.",
            )
        return sum(summands) * math.prod(score for name, score in known.items() if self.parts[name].gate)


def build_rewards(
    specs: Mapping[str, RewardRecipe], *, knowledge: Knowledge | None = None, base: Path | None = None
) -> RewardSet:
    """The recipe's components, ready to score.

    knowledge: what the cases' own source knows, for `validity`. base: the folder that paths in the recipe are
    relative to; default: the working folder.
    """
    surroundings = Surroundings(knowledge, base or Path.cwd())
    parts = {name: _build(name, spec, surroundings) for name, spec in specs.items()}
    if all(part.gate for part in parts.values()):
        raise RewardError(
            "there is no reward, or only gates, which have nothing to multiply",
            where="rewards",
            hint="Add a component without gate, such as accuracy.",
        )
    return RewardSet(parts)


def _build(name: str, spec: RewardRecipe, surroundings: Surroundings) -> Weighted:
    where, use = f"rewards.{name}", spec.use or name
    if spec.gate and spec.weight != 1:
        raise RewardError("a gate has no weight", where=where, hint="Leave out weight, or leave out gate.")
    component: Component
    try:
        if ":" in use:
            function = load_function(use, spec.options, surroundings.base)
            component = UserComponent(name, function, spec.timeout_seconds, spec.retries)
        else:
            component = _built_in(name, use, spec.options, surroundings)
    except RewardError as error:
        raise RewardError(
            error.what, where=f"{where}, {error.where}" if error.where else where, hint=error.hint
        ) from error
    return Weighted(component, spec.weight, spec.gate)


def _built_in(
    name: str, use: str, options: Mapping[str, Any], surroundings: Surroundings
) -> BuiltInComponent:
    built_in = BUILT_IN.get(use)
    if built_in is None:
        raise RewardError(
            f"there is no reward `{use}`",
            hint=did_you_mean(use, BUILT_IN)
            or f"There are {', '.join(BUILT_IN)}; your own: package.module:function or file.py:function.",
        )
    known = [
        parameter.name
        for parameter in inspect.signature(built_in.make).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            takes = f"It takes {', '.join(known)}." if known else "It takes none."
            raise RewardError(f"unknown option `{option}`", hint=did_you_mean(option, known) or takes)
    try:
        judge = built_in.make(surroundings, **options)
    except (TypeError, ValueError) as error:
        raise RewardError(f"these options cannot be used: {error}", hint="Check their types.") from error
    return BuiltInComponent(name, judge, built_in.best)
