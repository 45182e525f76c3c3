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
from typing import TYPE_CHECKING, Any, Literal

from grandrounds.errors import RewardError
from grandrounds.loading import did_you_mean, load_object

if TYPE_CHECKING:  # a worker has no use for the types, and loads NumPy only with them
    from grandrounds.types import Sample

Form = Literal["trl", "sample", "samples"]
Wanted = Literal["auto", "text", "chat"]


# What `rewards.logged` passes to functions besides the columns that are values.
LOGGERS = ("log_metric", "log_extra")


@dataclass(frozen=True)
class Signature:
    """How a reward function is called; JSON-able. names: its parameters. required: those without a default."""

    form: Form
    is_async: bool
    names: Sequence[str]
    required: Sequence[str]
    takes_all: bool  # **kwargs

    @staticmethod
    def of(function: Any, use: str) -> Signature:
        """RewardError where the parameters cannot be read, or there are none."""
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
        called = function if inspect.isroutine(function) else function.__call__
        named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        return Signature(
            form=_form(parameters[0]),
            is_async=inspect.iscoroutinefunction(called),
            names=[one.name for one in parameters],
            required=[one.name for one in named if one.default is one.empty],
            takes_all=any(one.kind is one.VAR_KEYWORD for one in parameters),
        )


@dataclass(frozen=True)
class UserFunction:
    """A user's reward function after loading, with how it is called. function: None where another process has it."""

    function: Callable[..., Any] | None
    signature: Signature
    options: Mapping[str, Any]
    source: str  # the function's file; errors point at its line that raised
    completions: Wanted = "auto"

    def arguments(
        self, samples: Sequence[Sample], further: Mapping[str, Any] = {}
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Positional and keyword arguments of each call that scores these samples. further: for TRL's form."""
        if self.signature.form == "sample":
            return [((sample,), dict(self.options)) for sample in samples]
        if self.signature.form == "samples":
            return [((list(samples),), dict(self.options))]
        available = {**trl_arguments(samples, self.completions), **further}
        return [((), {**self._named(available), **self.options})]

    def _named(self, available: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the function takes. RewardError for a required argument that does not exist."""
        signature = self.signature
        taken = {
            name: value for name, value in available.items() if signature.takes_all or name in signature.names
        }
        for name in signature.required:
            if name not in taken and name not in self.options:
                raise RewardError(
                    f"the function has a required parameter `{name}`, which the cases do not have",
                    where=self.source,
                    hint=did_you_mean(name, available)
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
    signature = Signature.of(function, use)
    for option in options:
        if not signature.takes_all and option not in signature.names:
            raise RewardError(
                f"unknown option `{option}`",
                where=use,
                hint=did_you_mean(option, signature.names) or "Leave it out.",
            )
    return UserFunction(function, signature, options, source)


def _form(first: inspect.Parameter) -> Form:
    annotation = getattr(first.annotation, "__name__", str(first.annotation))
    if first.name == "samples" or re.search(r"\[[\w.]*\bSample\]", str(first.annotation)):
        return "samples"
    return "sample" if first.name == "sample" or annotation.rpartition(".")[2] == "Sample" else "trl"


def returned_list(returned: Any, form: Form) -> list[Any] | str:
    """What a function returned as a list: of a list, tuple, array or tensor. For anything else the name of its type."""
    if form == "sample":
        return [returned]
    if hasattr(returned, "tolist"):
        returned = returned.tolist()
    return list(returned) if isinstance(returned, (list, tuple)) else type(returned).__name__
