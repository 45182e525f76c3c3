"""Combines all reward components of a recipe into one reward for each sample."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from grandrounds.cases.check import Knowledge
from grandrounds.domain import every
from grandrounds.errors import RewardError
from grandrounds.loading import did_you_mean
from grandrounds.recipe import MEMORY, RewardRecipe
from grandrounds.rewards.accuracy import accuracy
from grandrounds.rewards.behaviour import behaviour
from grandrounds.rewards.classifier import PREFIX, Classifier
from grandrounds.rewards.components import BuiltInComponent, Component, UserComponent
from grandrounds.rewards.consistency import consistency
from grandrounds.rewards.coverage import coverage
from grandrounds.rewards.evidence import evidence
from grandrounds.rewards.format import form
from grandrounds.rewards.guarded import start
from grandrounds.rewards.judging.judge import judge
from grandrounds.rewards.length import length
from grandrounds.rewards.logged import Logged, TrainerState
from grandrounds.rewards.repetition import repetition
from grandrounds.rewards.scorer import BuiltIn, RewardContext, Score
from grandrounds.rewards.user import UserFunction, load_function, understand
from grandrounds.rewards.validity import validity
from grandrounds.rewards.workers.client import AVAILABLE, Worker
from grandrounds.types import Sample, ScoredGroup

BUILT_IN: dict[str, BuiltIn] = {
    "accuracy": BuiltIn(accuracy),
    "format": BuiltIn(form),
    "consistency": BuiltIn(consistency),
    "evidence": BuiltIn(evidence),
    "validity": BuiltIn(validity),
    "coverage": BuiltIn(coverage),
    "length": BuiltIn(length, best=0.0),
    "repetition": BuiltIn(repetition, best=None),
    "behaviour": BuiltIn(behaviour, best=None),
    "judge": BuiltIn(judge, best=None),
}


@dataclass(frozen=True)
class Weighted:
    """A component, its weight, and whether it is a gate."""

    component: Component
    weight: float
    gate: bool


@dataclass(frozen=True)
class RewardSet:
    """Components by name.

        reward = (sum over components of weight * score) * (product over gates of score)

    A component that does not apply to a sample (None) is left out of the sum; such a gate is left out of the product.
    If no component of the sum applies, there is no reward: RewardError. A sum below 0 stays as it is: a gate that is
    shut must never be worth more than an open one, or a penalty could be escaped by breaking the form.
    """

    parts: Mapping[str, Weighted]

    def score(self, samples: Sequence[Sample]) -> ScoredGroup:
        """Score one group. RewardError names the component and the case that failed."""
        scoring = Scoring(self)
        scoring.add(samples)
        return scoring.results()[0]

    def close(self) -> None:
        """End the processes of users' functions. Those that nobody ends, end with the program."""
        for part in self.parts.values():
            if isinstance(part.component, UserComponent):
                part.component.close()

    def combine(
        self, samples: Sequence[Sample], scores: Mapping[str, Sequence[Score]], logged: Logged
    ) -> ScoredGroup:
        """Combine the components' scores into one reward for each sample."""
        return ScoredGroup(
            samples=tuple(samples),
            scores={name: tuple(score.value for score in of_one) for name, of_one in scores.items()},
            rewards=np.array(
                [
                    self._reward({name: of_one[i].value for name, of_one in scores.items()}, sample)
                    for i, sample in enumerate(samples)
                ]
            ),
            notes=tuple(
                {name: of_one[i].note for name, of_one in scores.items() if of_one[i].note is not None}
                for i in range(len(samples))
            ),
            logged={name: float(np.mean(values)) for name, values in logged.metrics.items()},
            extras=dict(logged.extras),
        )

    def _reward(self, scores: Mapping[str, float | None], sample: Sample) -> float:
        known = {name: score for name, score in scores.items() if score is not None}
        summands = [
            self.parts[name].weight * score for name, score in known.items() if not self.parts[name].gate
        ]
        if not summands:
            raise RewardError(
                "no reward applies: every component of the sum is None",
                where=f"case {sample.case.id}",
                hint="Add a component that applies to every case, such as accuracy.",
            )
        total = sum(summands)
        gates = math.prod(score for name, score in known.items() if self.parts[name].gate)
        return total * gates if total > 0 else total


class Scoring:
    """Scores groups while others are still being sampled: what computes at once, what waits in threads.

    A coroutine may work on many groups at the same time. A plain function may keep state, so it gets one group after
    another, in the order in which they were added.
    """

    def __init__(self, rewards: RewardSet, state: TrainerState = TrainerState()) -> None:  # noqa: B008 - frozen
        self._rewards, self._state = rewards, state
        self._last: dict[str, Future[list[Score]]] = {}
        self._begun: list[tuple[Sequence[Sample], dict[str, Future[list[Score]]], Logged]] = []

    def add(self, samples: Sequence[Sample]) -> None:
        """Begin scoring one group."""
        logged = Logged(len(samples))
        begun = {
            name: self._begin(name, part.component, samples, logged)
            for name, part in self._rewards.parts.items()
        }
        self._begun.append((samples, begun, logged))

    def _begin(
        self, name: str, component: Component, samples: Sequence[Sample], logged: Logged
    ) -> Future[list[Score]]:
        if not component.waits:
            done: Future[list[Score]] = Future()
            done.set_result(component.scores(samples))
            return done
        before = None if component.at_once else self._last.get(name)
        further = logged.arguments(self._state)
        self._last[name] = start(_scores_after, (before, component, samples, further), {})
        return self._last[name]

    def results(self) -> list[ScoredGroup]:
        """All groups, in the order they were added. RewardError where a component failed."""
        return [
            self._rewards.combine(samples, {name: scores.result() for name, scores in begun.items()}, logged)
            for samples, begun, logged in self._begun
        ]


def _scores_after(
    before: Future[list[Score]] | None,
    component: Component,
    samples: Sequence[Sample],
    further: Mapping[str, Any],
) -> list[Score]:
    if before is not None:
        before.result()  # raises if the group before failed, so that no further group is scored
    return component.scores(samples, further)


def build_rewards(
    specs: Mapping[str, RewardRecipe],
    *,
    knowledge: Knowledge | None = None,
    base: Path | None = None,
    run: Path | None = None,
    functions: Mapping[str, Callable[..., Any]] = {},
) -> RewardSet:
    """The recipe's components, ready to score.

    knowledge: that of the cases' own source, for `validity`. base: the folder to which paths in the recipe are
    relative; default: the working folder. run: the run's folder. functions: component name -> function in memory.
    """
    context = RewardContext(knowledge, base or Path.cwd(), run)
    parts = {name: _build(name, spec, context, functions.get(name)) for name, spec in specs.items()}
    if all(part.gate for part in parts.values()):
        raise RewardError(
            "there is no reward, or only gates, which have nothing to multiply",
            where="rewards",
            hint="Add a component without gate, such as accuracy.",
        )
    return RewardSet(parts)


def _build(
    name: str, spec: RewardRecipe, context: RewardContext, given: Callable[..., Any] | None
) -> Weighted:
    where, use = f"rewards.{name}", spec.use or name
    if spec.gate and spec.weight != 1:
        raise RewardError("a gate has no weight", where=where, hint="Leave out weight, or leave out gate.")
    component: Component
    try:
        if given is not None or ":" in use:
            component = _of_user(name, use, spec, context, given)
        else:
            _require_no_settings_of_functions(use, spec)
            own = replace(context, name=name, timeout_seconds=spec.timeout_seconds, retries=spec.retries)
            component = _built_in(name, use, spec.options, own)
    except RewardError as error:
        raise RewardError(
            error.what, where=f"{where}, {error.where}" if error.where else where, hint=error.hint
        ) from error
    return Weighted(component, spec.weight, spec.gate)


def _require_no_settings_of_functions(use: str, spec: RewardRecipe) -> None:
    """RewardError where a built-in reward is given what only users' functions have."""
    for key in ("completions", "memory_gb"):
        if getattr(spec, key) != RewardRecipe.model_fields[key].default:
            raise RewardError(
                f"`{use}` is built in, and {key} does nothing for it",
                hint=f"Leave {key} out; it is for functions of your own.",
            )


def _of_user(
    name: str, use: str, spec: RewardRecipe, context: RewardContext, given: Callable[..., Any] | None
) -> UserComponent:
    """A function in memory, a classifier, or what `use` names: in a process of its own unless it is async."""
    worker = None
    if given is not None:
        function = understand(given, _file_of(given), spec.options, name)
    elif use.startswith(PREFIX):
        function = understand(Classifier(use.removeprefix(PREFIX)), use, spec.options, name)
    elif not AVAILABLE:
        function = load_function(use, spec.options, context.base)
    else:
        worker = Worker(f"rewards.{name}", use, spec.options, context.base, spec.memory_gb)
        function = UserFunction(None, worker.signature, spec.options, worker.source)
        if worker.signature.is_async:
            worker.close()
            worker, function = None, load_function(use, spec.options, context.base)
    function = replace(function, completions=spec.completions)
    return UserComponent(name, function, spec.timeout_seconds, spec.retries, worker)


def _file_of(function: Callable[..., Any]) -> str:
    """The file that defines a function, or the class of another callable."""
    inner = inspect.unwrap(function)
    try:
        return inspect.getfile(inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner))
    except TypeError:  # of a built-in class
        return type(inner).__name__


def _built_in(name: str, use: str, options: Mapping[str, Any], context: RewardContext) -> BuiltInComponent:
    if use == MEMORY:
        raise RewardError(
            "this run's reward function was a Python object, which is not saved with the run",
            hint="Pass it again: resume(folder, rewards={...}).",
        )
    of_domains = {name: BuiltIn(make, best=None) for name, make in every("rewards").items()}
    known_rewards = {**BUILT_IN, **of_domains, **BUILT_IN}  # ours first, in the list and in meaning
    built_in = known_rewards.get(use)
    if built_in is None:
        raise RewardError(
            f"there is no reward `{use}`",
            hint=did_you_mean(use, known_rewards)
            or f"There are {', '.join(known_rewards)}; your own: package.module:function or file.py:function.",
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
        scorer = built_in.make(context, **options)
    except (TypeError, ValueError) as error:
        raise RewardError(f"these options cannot be used: {error}", hint="Check their types.") from error
    return BuiltInComponent(name, scorer, built_in.best)
