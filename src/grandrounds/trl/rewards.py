"""TRL's reward functions as ours: they are passed what TRL passes, and nothing else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.rewards.classifier import PREFIX, Classifier
from grandrounds.trl.translation import REWARD

# What every TRL reward function is passed besides the data set's columns, but for the trainer's state.
PASSED = ("prompts", "completions", "completion_ids", "log_extra", "log_metric")


@dataclass(frozen=True)
class Rewards:
    """The reward functions by name, in order; and their part of the recipe."""

    functions: Mapping[str, Callable[..., Any] | str]
    sections: Mapping[str, Mapping[str, Any]]


def rewards_of(
    given: Any,
    weights: Sequence[float] | None,
    tokenizers: Any,
    columns: Sequence[str],
    state: Callable[[], Any],
) -> Rewards:
    """Functions, models and models' names as rewards. state: returns the trainer's state.

    RewardError for anything else, and for another number of weights or tokenizers.
    """
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    if given is None or not listed:
        raise RewardError("there is no reward", where="reward_funcs", hint="Pass a function, or several.")
    weights = _one_each(weights, listed, "reward_weights", 1.0)
    if tokenizers is not None and not isinstance(tokenizers, (list, tuple)):
        tokenizers = [tokenizers]
    tokenizers = _one_each(tokenizers, listed, "reward_processing_classes", None)
    functions: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for one, weight, tokenizer in zip(listed, weights, tokenizers, strict=True):
        name = _free(_name_of(one), functions)
        functions[name] = _reward(one, tokenizer, columns, state)
        sections[name] = {"weight": float(weight), **REWARD}
    return Rewards(functions, sections)


def _one_each(given: Sequence[Any] | None, rewards: Sequence[Any], name: str, default: Any) -> Sequence[Any]:
    if given is None:
        return [default] * len(rewards)
    if len(given) != len(rewards):
        raise RewardError(
            f"there are {len(given)} of them for {len(rewards)} rewards",
            where=name,
            hint="Give one for each.",
        )
    return given


def _name_of(one: Any) -> str:
    """The name under which TRL logs a reward: of the function, of the class of a callable, or the model's last part."""
    if isinstance(one, str):
        return one.rstrip("/").rpartition("/")[2]
    if hasattr(one, "config"):
        return str(getattr(one.config, "_name_or_path", "") or type(one).__name__).rpartition("/")[2]
    one = _inner(one)
    return str(getattr(one, "__name__", type(one).__name__))


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name; with a number where another reward has it."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _inner(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _reward(one: Any, tokenizer: Any, columns: Sequence[str], state: Callable[[], Any]) -> Any:
    if isinstance(one, str):
        return f"{PREFIX}{one}" if tokenizer is None else Classifier(one, tokenizer=tokenizer)
    if hasattr(one, "config") and hasattr(one, "forward"):
        return Classifier(_name_of(one), model=one, tokenizer=tokenizer)
    if not callable(one) or inspect.isclass(one):
        raise RewardError(
            f"{one!r:.60} is no reward",
            where="reward_funcs",
            hint="Pass a function, an object with __call__, a sequence classifier, or its name.",
        )
    return _function(one, (*PASSED, *columns), state)


def _function(one: Callable[..., Any], names: Sequence[str], state: Callable[[], Any]) -> Any:
    """The function as TRL calls it: with every one of these names, and the trainer's state."""
    inner = _inner(one)

    def passed(given: Mapping[str, Any]) -> dict[str, Any]:
        missing = [None] * len(given["completions"])  # rows need not have the same columns
        return {**{name: given.get(name, missing) for name in names}, "trainer_state": state()}

    async def awaited(**given: Any) -> Any:
        return await one(**passed(given))

    def called(**given: Any) -> Any:
        return one(**passed(given))

    own = inner if inspect.isroutine(inner) else inner.__call__
    call: Any = awaited if inspect.iscoroutinefunction(own) else called
    # It takes whatever there is; errors name the function's own file and line.
    call.__signature__, call.__wrapped__ = inspect.signature(call), own
    return call
