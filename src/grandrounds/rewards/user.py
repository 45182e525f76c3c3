"""Users' own rewards: any callable by dotted path or file, plain or async, in TRL's form or in ours.

    f(prompts, completions, **columns) -> list[float | None]      TRL's: keyword arguments, one call for all
    f(attempts: Sequence[Attempt]) -> list[float | None]          ours, one call for all
    f(attempt: Attempt) -> float | None                           ours, one call for each

Which one it is, the name or annotation of the first parameter tells. The component's options are keyword
arguments.

In TRL's form a case whose question is text gives its prompt and completion as strings, one whose question is
a chat as lists of messages. Columns are the cases' own, and besides them, unless they have these names
already: answer, solution and ground_truth (the gold text), letter, options, case_id; completion_ids where
tokens are at hand. A function gets those it names, or all if it takes **kwargs.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from grandrounds.errors import RewardError
from grandrounds.rewards.attempt import Attempt

Form = Literal["trl", "attempt", "attempts"]


@dataclass(frozen=True)
class UserFunction:
    """A user's reward function, loaded and understood."""

    function: Callable[..., Any]
    form: Form
    is_async: bool
    options: Mapping[str, Any]
    source: str  # the file that it stands in, to point at its line where it raises

    def arguments(self, attempts: Sequence[Attempt]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Positional and keyword arguments of each call that scores these attempts."""
        if self.form == "attempt":
            return [((attempt,), dict(self.options)) for attempt in attempts]
        if self.form == "attempts":
            return [((list(attempts),), dict(self.options))]
        return [((), {**self._named(trl_arguments(attempts)), **self.options})]

    def _named(self, available: dict[str, Any]) -> dict[str, Any]:
        """Those arguments that the function takes; RewardError for one that it needs and nobody has."""
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
                    f"the function asks for `{parameter.name}`, which the cases do not have",
                    where=self.source,
                    hint=did_you_mean(parameter.name, available) or f"There are: {', '.join(available)}.",
                )
        return taken


def trl_arguments(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Prompts, completions and columns as TRL's trainers pass them; every list as long as `attempts`."""
    names = dict.fromkeys(name for attempt in attempts for name in attempt.case.columns)
    derived = {
        "answer": [attempt.case.gold.text for attempt in attempts],
        "solution": [attempt.case.gold.text for attempt in attempts],
        "ground_truth": [attempt.case.gold.text for attempt in attempts],
        "letter": [attempt.case.gold.letter for attempt in attempts],
        "options": [dict(attempt.case.options) for attempt in attempts],
        "case_id": [attempt.case.id for attempt in attempts],
    }
    columns = {name: [attempt.case.columns.get(name) for attempt in attempts] for name in names}
    own: dict[str, Any] = {
        "prompts": [_prompt(attempt) for attempt in attempts],
        "completions": [_completion(attempt) for attempt in attempts],
    }
    if attempts and all(attempt.tokens is not None for attempt in attempts):
        own["completion_ids"] = [list(attempt.tokens or ()) for attempt in attempts]
    return {**derived, **columns, **own}


def _prompt(attempt: Attempt) -> str | list[dict[str, str]]:
    if isinstance(attempt.case.question, str):
        return attempt.prompt[-1].content if attempt.prompt else attempt.case.question
    return [{"role": message.role, "content": message.content} for message in attempt.prompt]


def _completion(attempt: Attempt) -> str | list[dict[str, str]]:
    if isinstance(attempt.case.question, str):
        return attempt.text
    return [{"role": "assistant", "content": attempt.text}]


def load_function(use: str, options: Mapping[str, Any], base: Path) -> UserFunction:
    """What "package.module:function" or "file.py:function" names; files are relative to `base`."""
    place, _, name = use.rpartition(":")
    module = _from_file(base / place) if place.endswith(".py") else _from_package(place, base)
    function: Any = module
    for part in name.split("."):
        if not hasattr(function, part):
            raise RewardError(
                f"there is no `{part}` in it",
                where=use,
                hint=did_you_mean(part, [n for n in dir(function) if not n.startswith("_")]),
            )
        function = getattr(function, part)
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
        source=str(getattr(module, "__file__", None) or use),
    )
    _check_options(loaded, use)
    return loaded


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RewardError(
            "there is no such file", where=str(path), hint="Check the path of the reward function."
        )
    name = f"grandrounds_reward_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RewardError(
            f"the file raises when imported: {describe(error)}",
            where=place_of(error, str(path)),
            hint="Mend the file.",
        ) from error
    return module


def _from_package(name: str, base: Path) -> ModuleType:
    """Import a module; modules in the folder that the recipe is relative to are found as well."""
    if str(base) not in sys.path:
        sys.path.append(str(base))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise RewardError(
            f"the module cannot be imported: {describe(error)}",
            where=place_of(error, name),
            hint="Install it, or name a file: path/to/file.py:function.",
        ) from error


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
            hint="Write f(prompts, completions, **columns) or f(attempt).",
        )
    first = parameters[0]
    annotation = getattr(first.annotation, "__name__", str(first.annotation))
    if first.name == "attempts" or re.search(r"\[[\w.]*\bAttempt\]", str(first.annotation)):
        return "attempts"
    return "attempt" if first.name == "attempt" or annotation.rpartition(".")[2] == "Attempt" else "trl"


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


def did_you_mean(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """A sentence with the nearest known name, or ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean `{close[0]}`?" if close else ""


def describe(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException, source: str) -> str:
    """file:line of the deepest frame in the user's own file, else of the deepest frame at all."""
    place, own, trace = source, "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        own = f"{file}:{trace.tb_lineno}" if file == source else own
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == source:
        return f"{source}:{error.lineno}"
    return own or place
