"""A TRL data set as cases without a gold answer: prompts that are text or messages, and every other column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grandrounds.errors import CaseError
from grandrounds.types import Answer, Case, CaseBook, Message

# What TRL does not pass on as a column.
NOT_COLUMNS = ("prompt", "completion", "completion_ids")
ROLES = ("system", "user", "assistant")
NO_GOLD = Answer("none", "")


def rows_of(given: Any, name: str) -> list[Mapping[str, Any]]:
    """The rows of a data set or of a list of dicts. CaseError for anything else, or for none."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise CaseError(
            f"{type(given).__name__} is no data set",
            where=name,
            hint="Pass a datasets.Dataset or a list of dicts, of one split.",
        )
    if not hasattr(given, "__len__"):
        raise CaseError(
            "a stream has no length, and its prompts cannot be drawn in a shuffled order",
            where=name,
            hint="Pass a list of its rows: list(stream.take(10_000)).",
        )
    rows = list(given)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or "prompt" not in row:
            raise CaseError(
                "there is no column `prompt`",
                where=f"{name}, row {number}",
                hint="Name the prompts' column so.",
            )
    if not rows:
        raise CaseError("there are no prompts", where=name, hint="Pass at least one row.")
    return rows


def cases_of(rows: Sequence[Mapping[str, Any]], name: str, keep_columns: bool = True) -> list[Case]:
    """The rows as cases, by row number; with their columns unless these are not kept. CaseError for a bad prompt."""
    cases = []
    for number, row in enumerate(rows, start=1):
        place = f"{name}, row {number}"
        columns = {key: value for key, value in row.items() if key not in NOT_COLUMNS} if keep_columns else {}
        for image in {"image", "images"} & set(row):
            if row[image] is not None:
                raise CaseError("the row has an image", where=place, hint="Only text can be trained on.")
        question = _question(row["prompt"], place)
        cases.append(Case(id=f"{name} {number}", question=question, gold=NO_GOLD, columns=columns))
    if len({isinstance(case.question, str) for case in cases}) > 1:
        raise CaseError(
            "some prompts are text and some are messages", where=name, hint="Make them all of one kind."
        )
    return cases


def book_of(train: Sequence[Case], evaluation: Sequence[Case]) -> CaseBook:
    """The cases of a run, split as the script has split them."""
    from grandrounds.cases.memory import fingerprint

    return CaseBook(train=train, test=evaluation, fitted={"sha256": fingerprint([*train, *evaluation])})


def _question(prompt: Any, place: str) -> str | tuple[Message, ...]:
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, Sequence) or not prompt:
        raise CaseError("the prompt is neither text nor messages", where=place, hint="Give one of them.")
    return tuple(_message(message, place) for message in prompt)


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise CaseError(
            f"{message!r:.60} is no message of {', '.join(ROLES)}",
            where=place,
            hint="Give {'role': …, 'content': …}; there are no tools.",
        )
    content = message.get("content")
    if further := [
        key for key, value in message.items() if key not in ("role", "content") and value is not None
    ]:
        raise CaseError(
            f"a message has `{further[0]}`", where=place, hint="Only role and content reach the model here."
        )
    if not isinstance(content, str):
        raise CaseError(
            "a message's content is no text", where=place, hint="Give text; parts and images are not read."
        )
    return Message(message["role"], content)
