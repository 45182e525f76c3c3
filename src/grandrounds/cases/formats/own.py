"""Our own format, and TRL's, which has other names for the question and the answer."""

from __future__ import annotations

import re
from typing import Any, Literal, cast, get_args

from grandrounds.cases.ask import gold_text
from grandrounds.cases.formats.fields import Fields, choice, plain_text
from grandrounds.domain import every
from grandrounds.types import Answer, AnswerKind, Case, Demonstration, Message

COLUMNS = (
    "id",
    "question",
    "messages",
    "answer",
    "options",
    "answer_letter",
    "kind",
    "synonyms",
    "unit",
    "tolerance",
    "facts",
    "context",
    "tags",
    "group",
    "reasoning",
)
TRL_QUESTIONS = ("prompt",)
TRL_ANSWERS = ("solution", "answer", "ground_truth")
_NUMBER = re.compile(r"^\s*([-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(.*)$", re.DOTALL)
# Tolerance of a number that is not marked as a measurement (a count, an arithmetic result): it must match exactly.
EXACTLY = 1e-6


def own_case(fields: Fields) -> Case:
    """A row of our own format."""
    question = "question" if "question" in fields.values or "messages" not in fields.values else "messages"
    return _case(fields, question, "answer")


def trl_case(fields: Fields) -> Case:
    """A row of TRL's format: `prompt` as text or messages; gold in `solution`, `answer` or `ground_truth`."""
    answer = next((name for name in TRL_ANSWERS if name in fields.values), TRL_ANSWERS[0])
    return _case(fields, TRL_QUESTIONS[0], answer)


def _case(fields: Fields, question: str, answer: str) -> Case:
    asked = _question(fields, question)
    options = fields.options("options")
    gold = _gold(fields, answer, options)
    group = fields.maybe_text("group")
    reasoning = fields.maybe_text("reasoning")
    case = Case(
        id=fields.maybe_text("id") or f"{fields.position:06d}",
        question=asked,
        gold=gold,
        options=options,
        context=_context(fields),
        facts=fields.texts("facts"),
        tags={name: plain_text(value) for name, value in fields.mapping("tags").items()},
        group=group,
    )
    demonstration = Demonstration(reasoning, gold_text(case)) if reasoning else None
    return Case(**{**vars(case), "demonstration": demonstration, "columns": fields.rest()})


def _context(fields: Fields) -> tuple[str, ...]:
    value = fields.get("context")
    return (value,) if isinstance(value, str) and value[0] not in "[{" else fields.texts("context")


def _question(fields: Fields, name: str) -> str | tuple[Message, ...]:
    if name not in fields.values:
        fields.missing(name)
    value = fields.get(name)
    if isinstance(value, str) and name == "messages":
        value = fields.structure(name)
    if not isinstance(value, (list, tuple)):
        return fields.text(name)
    messages = tuple(_message(fields, part) for part in value)
    if not messages or messages[-1].role != "user":
        fields.fail(
            "the last message is not the user's",
            "End the messages with the question; put the answer into its own column.",
        )
    return messages


def _message(fields: Fields, part: Any) -> Message:
    roles = ("system", "user", "assistant")
    if (
        not isinstance(part, dict)
        or part.get("role") not in roles
        or not isinstance(part.get("content"), str)
    ):
        fields.fail(
            "a message should have a role (system, user, assistant) and text content",
            'Write {"role": "user", "content": "…"}.',
        )
    return Message(cast(Literal["system", "user", "assistant"], part["role"]), part["content"])


def _gold(fields: Fields, name: str, options: dict[str, str]) -> Answer:
    letter, kind = fields.maybe_text("answer_letter"), fields.maybe_text("kind")
    kinds = (*get_args(AnswerKind), *every("matchers"))
    if kind is not None and kind not in kinds:
        fields.fail(f"there is no answer kind `{kind}`", f"Use {', '.join(kinds)}.")
    if name not in fields.values and not (options and letter):
        fields.missing(name)
    value = fields.get(name)
    if options and kind in (None, "choice"):
        return choice(fields, options, None if value is None else plain_text(value), letter)
    if kind == "choice":
        fields.fail("a choice needs options", "Give the column `options`.")
    synonyms = fields.texts("synonyms")
    if isinstance(value, (list, tuple)) and value:
        value, synonyms = value[0], (*(plain_text(other) for other in value[1:]), *synonyms)
    text = "" if value is None else plain_text(value)
    if not text:
        fields.fail("the gold answer is empty", "Fill it in, or remove the row.")
    unit, tolerance = fields.maybe_text("unit"), fields.number("tolerance")
    if tolerance is not None and tolerance < 0:
        fields.fail(f"the tolerance is {tolerance}", "Give a relative one: 0.01 is one per cent.")
    match = _NUMBER.match(text)
    number = _float(match[1]) if match else None
    bare = number is not None and match is not None and not match[2]
    if kind == "number" or (kind is None and bare):
        if number is None or match is None:
            fields.fail(f"the answer `{text}` is no number", "Write the number first, then its unit.")
        measured = kind == "number" or unit is not None
        return Answer(
            "number",
            text,
            synonyms=synonyms,
            value=number,
            unit=unit or match[2].strip() or None,
            tolerance=tolerance if tolerance is not None else (0.01 if measured else EXACTLY),
        )
    return Answer(kind or "text", text, synonyms=synonyms)


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("−", "-"))
    except ValueError:
        return None
