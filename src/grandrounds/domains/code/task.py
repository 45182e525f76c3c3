"""The tests of a case, from the columns of MBPP, HumanEval and APPS; and the program in a response."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.domains.code.calls import CallTests
from grandrounds.errors import RewardError
from grandrounds.types import Case

_FENCED = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
# APPS's own rule: a list may stand for a tuple, and an output may be wrapped in a list.
_SAME = """
def same(given, expected):
    def listed(value):
        return [listed(one) for one in value] if isinstance(value, (list, tuple)) else value
    given = listed(given)
    return given == expected or [given] == expected
"""


@dataclass(frozen=True)
class InputTests:
    """Tests of a whole program: pairs of its standard input and of what it has to print."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Task:
    """What a program is tested by. given: code that stands before it, because the prompt shows it: the beginning of
    the function `begun`."""

    tests: CallTests | InputTests
    given: str = ""
    begun: str = ""

    def program(self, answer: str) -> str:
        """The program in an answer, which may go on with the function that the prompt begins."""
        written = program_of(answer)
        defined = re.search(rf"^[ \t]*(async )?def {re.escape(self.begun)}\b", written, re.MULTILINE)
        if self.begun and not defined and not written[:1].isspace():
            written = f"    {written}"  # the space that an answer loses at its beginning
        return self.given + written


def task_of(case: Case) -> Task | None:
    """The case's tests; None where it has none. RewardError where they cannot be read."""
    columns = case.columns
    try:
        if columns.get("test") and columns.get("entry_point"):
            return _humaneval(columns)
        if columns.get("test_list"):
            return _mbpp(columns)
        if columns.get("input_output"):
            return _apps(columns["input_output"])
    except (ValueError, TypeError, KeyError) as error:
        raise RewardError(
            f"its tests cannot be read: {type(error).__name__}: {error}"[:300],
            where=f"case {case.id}",
            hint="Correct them, or remove the row.",
        ) from error
    return None


def _humaneval(columns: Mapping[str, Any]) -> Task:
    entry = str(columns["entry_point"])
    given = f"{columns.get('prompt', '')}\n    pass\n" if columns.get("prompt") else ""
    test = f"{columns['test']}\n\ncheck({entry})\n"
    return Task(CallTests([test], given=given, functions=[entry]), given, entry)


def _mbpp(columns: Mapping[str, Any]) -> Task:
    tests = [*columns["test_list"], *(columns.get("challenge_test_list") or ())]
    setup = [*(columns.get("test_imports") or ()), columns.get("test_setup_code") or ""]
    return Task(CallTests([str(test) for test in tests], setup="\n".join(map(str, setup))))


def _apps(given: Any) -> Task | None:
    held = json.loads(given) if isinstance(given, str) else given
    inputs, outputs = held.get("inputs") or [], held.get("outputs") or []
    if not inputs:
        return None
    name = held.get("fn_name")
    pairs = list(zip(inputs, outputs, strict=True))
    if name is None:
        return Task(InputTests([(_text(one), _text(other)) for one, other in pairs]))
    tests = [f"assert same({name}(*{list(one)!r}), {other!r})" for one, other in pairs]
    return Task(CallTests(tests, given=_SAME, functions=[name]))


def _text(value: Any) -> str:
    """Input or output as one text; APPS has lists of lines too."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def same_output(printed: str, expected: str) -> bool:
    """Whether two texts have the same lines, but for white space at the end of each and empty lines at the end."""
    lines, others = ([line.rstrip() for line in text.rstrip().split("\n")] for text in (printed, expected))
    return lines == others


def program_of(answer: str) -> str:
    """The program in an answer: its last fenced block, or else all of it."""
    blocks = _FENCED.findall(answer)
    return blocks[-1] if blocks else answer
