"""Published questions on reports: FinQA, ConvFinQA, TAT-QA. Tables are written as lines, cells between bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grandrounds.cases.formats.answers import gold_answer
from grandrounds.cases.formats.fields import Fields, plain_text
from grandrounds.cases.formats.general import case_of
from grandrounds.types import Case, Message


def finqa_case(fields: Fields) -> Case:
    """FinQA (Chen et al. 2021, arXiv:2109.00122): text, table, text; the question and its answer in `qa`."""
    asked = Fields(fields.mapping("qa"), fields.place, fields.position)
    answer = asked.maybe_text("answer") or asked.text("exe_ans")
    context = _report(fields)
    gold = gold_answer(fields, answer, kind=_kind(answer))
    return case_of(fields, asked.text("question"), gold, context=context, group=fields.maybe_text("filename"))


def convfinqa_cases(fields: Fields) -> list[Case]:
    """ConvFinQA (Chen et al. 2022, arXiv:2210.03849): a case for each turn of a dialogue, with the turns before it."""
    dialogue = Fields(fields.mapping("annotation"), fields.place, fields.position)
    questions, answers = dialogue.get("dialogue_break"), dialogue.get("exe_ans_list")
    if (
        not isinstance(questions, list)
        or not isinstance(answers, list)
        or not 0 < len(questions) == len(answers)
    ):
        fields.fail("`annotation` should hold as many questions as answers", "Correct the row.")
    context, identity = "\n".join(_report(fields)), fields.maybe_text("id") or f"{fields.position:06d}"
    said: list[Message] = []
    cases = []
    for turn, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        text = plain_text(question)
        said.append(Message("user", f"{context}\n{text}" if turn == 0 else text))
        gold = gold_answer(fields, plain_text(answer))
        cases.append(Case(f"{identity}-{turn}", tuple(said), gold, group=identity, columns=fields.rest()))
        said.append(Message("assistant", gold.text))
    return cases


def tatqa_cases(fields: Fields) -> list[Case]:
    """TAT-QA (Zhu et al. 2021, arXiv:2105.07624): a table and paragraphs with several questions."""
    table = Fields(fields.mapping("table"), fields.place, fields.position)
    paragraphs, questions = fields.get("paragraphs"), fields.get("questions")
    if not isinstance(paragraphs, list) or not isinstance(questions, list) or not questions:
        fields.fail("`paragraphs` and `questions` should be lists, and not empty", "Correct the row.")
    texts = [plain_text(part.get("text", "")) for part in paragraphs if isinstance(part, Mapping)]
    context = (_lines(table.get("table")), *texts)
    report = table.maybe_text("uid") or f"{fields.position:06d}"
    cases = []
    for number, part in enumerate(questions):
        if not isinstance(part, Mapping):
            fields.fail("a question should be a mapping", "Correct the row.")
        asked = Fields(part, fields.place, fields.position)
        cases.append(
            Case(
                id=asked.maybe_text("uid") or f"{report}-{number}",
                question=asked.text("question"),
                gold=_tatqa_gold(fields, asked),
                context=context,
                group=report,
                columns=asked.rest(),
            )
        )
    return cases


def _tatqa_gold(fields: Fields, asked: Fields) -> Any:
    """The answer with its scale; several spans as one text."""
    value, scale = asked.get("answer"), asked.maybe_text("scale")
    spans = [plain_text(part) for part in value] if isinstance(value, list) else [plain_text(value)]
    text = ", ".join(spans)
    unit = "%" if scale == "percent" else scale
    number = len(spans) == 1 and _kind(text) == "number"
    return gold_answer(fields, text, kind="number" if number else None, unit=unit if number else None)


def _report(fields: Fields) -> tuple[str, ...]:
    before, after = " ".join(fields.texts("pre_text")), " ".join(fields.texts("post_text"))
    return tuple(part for part in (before, _lines(fields.get("table")), after) if part)


def _lines(table: Any) -> str:
    rows = table if isinstance(table, Sequence) and not isinstance(table, str) else []
    return "\n".join(" | ".join(map(plain_text, row)) for row in rows if isinstance(row, Sequence))


def _kind(answer: str) -> str | None:
    """A number where it begins with one, as "93.5%" does."""
    return "number" if answer.lstrip("-+−$( ")[:1].isdigit() and not answer.startswith("$") else None
