"""Users' own rewards: any callable by dotted path or file, plain or async, in TRL's form or in ours.

    f(prompts, completions, **columns) -> list[float | None]      TRL's: keyword arguments, one call for all
    f(samples: Sequence[Sample]) -> list[float | None]          ours, one call for all
    f(sample: Sample) -> float | None                           ours, one call for each

The name or annotation of the first parameter determines the form. The component's options become keyword arguments.

In TRL's form, prompt and completion are strings for a case whose question is text, and lists of messages for a case
whose question is a chat, or as `rewards.NAME.completions` says. Columns are the cases' own. Unless they already have
these names, there are also: answer, solution and ground_truth (the gold text), letter, options and case_id. A function
gets the columns that it names, or all if it takes **kwargs; likewise completion_ids, trainer_state, log_metric and
log_extra.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grandrounds.errors import RewardError
from grandrounds.loading import did_you_mean, load_object
from grandrounds.types import Sample

Form = Literal["trl", "sample", "samples"]
Wanted = Literal["auto", "text", "chat"]


@dataclass(frozen=True)
class UserFunction:
    """A user's reward function after loading, with its form."""

    function: Callable[..., Any]
    form: Form
    is_async: bool
    options: Mapping[str, Any]
    source: str  # the function's file; errors point at its line that raised
    completions: Wanted = "auto"

    def arguments(
        self, samples: Sequence[Sample], further: Mapping[str, Any] = {}
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Positional and keyword arguments of each call that scores these samples. further: for TRL's form."""
        if self.form == "sample":
            return [((sample,), dict(self.options)) for sample in samples]
        if self.form == "samples":
            return [((list(samples),), dict(self.options))]
        available = {**trl_arguments(samples, self.completions), **further}
        return [((), {**self._named(available), **self.options})]

    def _named(self, available: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the function takes. RewardError for a required argument that does not exist."""
        parameters = inspect.signature(self.function).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            taken = available
        else:
            taken = {name: value for name, value in available.items() if name in {p.name for p in parameters}}
        for parameter in parameters:
            required = parameter.default is parameter.empty and parameter.kind in (
                parameter.POSITIONAL_OR_KEYWORD,
                parameter.KEYWORD_ONLY,
            )
            if required and parameter.name not in taken and parameter.name not in self.options:
                raise RewardError(
                    f"the function has a required parameter `{parameter.name}`, which the cases do not have",
                    where=self.source,
                    hint=did_you_mean(parameter.name, available)
                    or f"There are: {', '.join(available)}. In our form its first parameter is `sample` or `samples`.",
                )
        return taken


def trl_arguments(samples: Sequence[Sample], wanted: Wanted = "auto") -> dict[str, Any]:
    """Prompts, completions and columns as TRL's trainers pass them. Every list is as long as `samples`."""
    names = dict.fromkeys(name for sample in samples for name in sample.case.columns)
    gold = [None if sample.case.gold.kind == "none" else sample.case.gold.text for sample in samples]
    derived = {
        **dict.fromkeys(("answer", "solution", "ground_truth"), gold),
        "letter": [sample.case.gold.letter for sample in samples],
        "options": [dict(sample.case.options) for sample in samples],
        "case_id": [sample.case.id for sample in samples],
    }
    columns = {name: [sample.case.columns.get(name) for sample in samples] for name in names}
    own: dict[str, Any] = {
        "prompts": [_prompt(sample, wanted) for sample in samples],
        "completions": [_completion(sample, wanted) for sample in samples],
        "completion_ids": [sample.completion.tokens.tolist() for sample in samples],
    }
    return {**derived, **columns, **own}


def _as_text(sample: Sample, wanted: Wanted) -> bool:
    return wanted == "text" or (wanted == "auto" and isinstance(sample.case.question, str))


def _prompt(sample: Sample, wanted: Wanted) -> str | list[dict[str, str]]:
    messages = sample.prompt.messages
    if not _as_text(sample, wanted):
        return [{"role": message.role, "content": message.content} for message in messages]
    return messages[-1].content if messages else str(sample.case.question)


def _completion(sample: Sample, wanted: Wanted) -> str | list[dict[str, str]]:
    return sample.text if _as_text(sample, wanted) else [{"role": "assistant", "content": sample.text}]


def load_function(use: str, options: Mapping[str, Any], base: Path) -> UserFunction:
    """The function that "package.module:function" or "file.py:function" names. Files are relative to `base`."""
    return understand(*load_object(use, base, RewardError), options, use)


def understand(function: Any, source: str, options: Mapping[str, Any], use: str) -> UserFunction:
    """A callable as a reward: its form and options. RewardError if it is not callable or does not take the options."""
    if not callable(function):
        raise RewardError("this is no function", where=use, hint="Name a function or another callable.")
    if inspect.isclass(function):
        function = function(**options)
        options = {}
    called = function if inspect.isroutine(function) else function.__call__
    loaded = UserFunction(
        function=function,
        form=_form(function, use),
        is_async=inspect.iscoroutinefunction(called),
        options=options,
        source=source,
    )
    _check_options(loaded, use)
    return loaded


def _form(function: Callable[..., Any], use: str) -> Form:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise RewardError(
            "its parameters cannot be read", where=use, hint="Wrap it in a Python function."
        ) from error
    if not parameters:
        raise RewardError(
            "the function takes no arguments",
            where=use,
            hint="Write f(prompts, completions, **columns) or f(sample).",
        )
    first = parameters[0]
    annotation = getattr(first.annotation, "__name__", str(first.annotation))
    if first.name == "samples" or re.search(r"\[[\w.]*\bSample\]", str(first.annotation)):
        return "samples"
    return "sample" if first.name == "sample" or annotation.rpartition(".")[2] == "Sample" else "trl"


def _check_options(loaded: UserFunction, use: str) -> None:
    parameters = inspect.signature(loaded.function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = [parameter.name for parameter in parameters]
    for option in loaded.options:
        if option not in names:
            raise RewardError(
                f"unknown option `{option}`", where=use, hint=did_you_mean(option, names) or "Leave it out."
            )
