"""Our own format, and TRL's, which has other names for the question and the answer."""

from __future__ import annotations

from typing import get_args

from grandrounds.cases.ask import gold_text
from grandrounds.cases.formats.answers import gold_answer
from grandrounds.cases.formats.fields import Fields, choice, choices, plain_text
from grandrounds.cases.formats.general import read_messages
from grandrounds.domain import every
from grandrounds.types import Answer, AnswerKind, Case, Demonstration, Message

COLUMNS = (
    "id",
    "question",
    "messages",
    "answer",
    "options",
    "option_notes",
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
    options = fields.options("options") if "options" in fields.values else fields.options_in_columns()
    if not options and fields.get("options") is not None:
        fields.fail(
            "there are no options in `options`", "Fill them in, or remove the column for an open question."
        )
    gold = _gold(fields, answer, options)
    group = fields.maybe_text("group")
    reasoning = fields.maybe_text("reasoning")
    case = Case(
        id=fields.maybe_text("id") or f"{fields.position:06d}",
        question=asked,
        gold=gold,
        options=options,
        option_notes=_notes(fields, options),
        context=_context(fields),
        facts=fields.texts("facts"),
        tags={name: plain_text(value) for name, value in fields.mapping("tags").items()},
        group=group,
    )
    demonstration = Demonstration(reasoning, gold_text(case)) if reasoning else None
    return Case(**{**vars(case), "demonstration": demonstration, "columns": fields.rest()})


def _notes(fields: Fields, options: dict[str, str]) -> dict[str, str]:
    """An option's text -> its note; notes come as options do, by letter or in their order."""
    notes = fields.options("option_notes")
    for letter in notes:
        if letter not in options:
            fields.fail(f"`option_notes` has a note for {letter}, which is no option", "Remove it.")
    by_text = {options[letter]: note for letter, note in notes.items()}
    if len(by_text) < len(notes):
        fields.fail("two options with notes have the same text", "Give them different texts.")
    return by_text


def _context(fields: Fields) -> tuple[str, ...]:
    value = fields.get("context")
    return (value,) if isinstance(value, str) and value[0] not in "[{" else fields.texts("context")


def _question(fields: Fields, name: str) -> str | tuple[Message, ...]:
    if name not in fields.values:
        fields.missing(name)
    value = fields.get(name)
    if isinstance(value, str) and name == "messages":
        value = fields.structure(name)
    if isinstance(value, (int, float)):
        fields.fail(f"the question is a number ({value})", "Put the text of the question there.")
    if not isinstance(value, (list, tuple)):
        return fields.text(name)
    messages = tuple(read_messages(fields, name))
    if messages[-1].role != "user":
        fields.fail(
            "the last message is not the user's",
            "End the messages with the question; put the answer into its own column.",
        )
    return messages


def _gold(fields: Fields, name: str, options: dict[str, str]) -> Answer:
    letter, kind = fields.maybe_text("answer_letter"), fields.maybe_text("kind")
    kinds = (*get_args(AnswerKind), *every("matchers"))
    if kind is not None and kind not in kinds:
        fields.fail(f"there is no answer kind `{kind}`", f"Use {', '.join(kinds)}.")
    if name not in fields.values and not (options and letter):
        fields.missing(name)
    value = fields.get(name)
    several = fields.structure(name) if options else None
    if isinstance(several, (list, tuple)) and kind in (None, "choices"):
        return choices(fields, options, [plain_text(one) for one in several])
    if options and kind in (None, "choice"):
        return choice(fields, options, None if value is None else plain_text(value), letter)
    if kind in ("choice", "choices"):
        fields.fail("a choice needs options", "Give the column `options`.")
    synonyms = fields.texts("synonyms")
    if isinstance(value, (list, tuple)) and value:
        value, synonyms = value[0], (*(plain_text(other) for other in value[1:]), *synonyms)
    unit, tolerance = fields.maybe_text("unit"), fields.number("tolerance")
    if tolerance is not None and tolerance < 0:
        fields.fail(f"the tolerance is {tolerance}", "Give a relative one: 0.01 is one per cent.")
    text = "" if value is None else plain_text(value)
    return gold_answer(fields, text, kind=kind, synonyms=synonyms, unit=unit, tolerance=tolerance)
