"""Published question sets in their authors' formats: MedQA, MedMCQA, MediQ, PubMedQA."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from grandrounds.cases.ask import gold_text
from grandrounds.cases.formats.answers import gold_answer
from grandrounds.cases.formats.fields import Fields, choice
from grandrounds.cases.formats.general import case_of, chat_case, read_messages
from grandrounds.cases.read import Row
from grandrounds.domains.medicine.ages import age_band, days_of
from grandrounds.types import Answer, Case, Demonstration

_NUMBERING = re.compile(r"^(?:\d{1,3}[.)]|[-•*])\s+")
LABELS = ("yes", "no", "maybe")


def medqa_case(fields: Fields) -> Case:
    """MedQA (Jin et al. 2021, arXiv:2009.13081): USMLE questions; `answer_idx` is the letter."""
    question, options = fields.text("question"), fields.options("options")
    gold = choice(fields, options, fields.maybe_text("answer"), fields.text("answer_idx"))
    exam = fields.maybe_text("meta_info")
    return Case(
        id=fields.maybe_text("id") or f"{fields.position:06d}",
        question=question,
        gold=gold,
        options=options,
        tags={"exam": exam} if exam else {},
        columns=fields.rest(),
    )


def medmcqa_reader(rows: Sequence[Row], mapping: Mapping[str, str]) -> Callable[[Fields], Case]:
    """`medmcqa_case` with the rows' own numbering: the Hub's copy of MedMCQA counts `cop` from 0."""
    column = mapping.get("cop", "cop")
    first = 0 if any(row.values.get(column) in (0, "0") for row in rows) else 1
    return partial(medmcqa_case, first=first)


def medmcqa_case(fields: Fields, first: int = 1) -> Case:
    """MedMCQA (Pal et al. 2022, arXiv:2203.14371). first: the lowest value of `cop`, 1 in the authors' files."""
    question = fields.text("question")
    letters = "abcd"
    texts = {letter.upper(): fields.maybe_text(f"op{letter}") for letter in letters}
    options = {letter: text for letter, text in texts.items() if text}
    if "cop" not in fields.values:
        fields.missing("cop")
    number = fields.number("cop")
    if number is None or number - first not in range(len(letters)):
        fields.fail(
            f"`cop` is {fields.values.get('cop')!r}",
            f"It should be the right option's number, {first} to {first + 3}.",
        )
    letter = letters[int(number) - first].upper()
    gold = choice(fields, options, None, letter)
    subject, explanation = fields.maybe_text("subject_name"), fields.maybe_text("exp")
    return Case(
        id=fields.maybe_text("id") or f"{fields.position:06d}",
        question=question,
        gold=gold,
        options=options,
        tags={"subject": subject} if subject else {},
        demonstration=Demonstration(explanation, f"{letter}. {gold.text}") if explanation else None,
        columns=fields.rest(),
    )


def mediq_case(fields: Fields) -> Case:
    """MediQ (Li et al. 2024, arXiv:2406.00922): MedQA with the vignette cut into atomic facts."""
    question, options = fields.text("question"), fields.options("options")
    gold = choice(fields, options, fields.maybe_text("answer"), fields.text("answer_idx"))
    facts = tuple(_NUMBERING.sub("", fact).strip() for fact in fields.texts("facts"))
    context = fields.get("context")
    vignette = context if isinstance(context, str) else " ".join(fields.texts("context"))
    patient = fields.mapping("patient")
    return Case(
        id=fields.maybe_text("id") or f"{fields.position:06d}",
        question=question,
        gold=gold,
        options=options,
        context=(vignette,) if vignette else (),
        facts=tuple(fact for fact in facts if fact),
        tags=_patient_tags(patient),
        columns=fields.rest(),
    )


def _patient_tags(patient: Mapping[str, object]) -> dict[str, str]:
    sex = str(patient.get("gender", "")).lower()
    tags = {
        "age": age_band(days_of(str(patient.get("age", "")))),
        "sex": sex if sex in ("male", "female") else "unknown",
    }
    specialty = str(patient.get("gpt_specialty") or "")
    return {**tags, "specialty": specialty} if specialty else tags


def openlife_case(fields: Fields) -> Case:
    """MedQA and its kin as OpenLifeScienceAI publishes them: everything in `data`, the gold letter too."""
    inner = Fields(fields.mapping("data"), fields.place, fields.position)
    question, options = inner.text("Question"), inner.options("Options")
    gold = choice(fields, options, inner.maybe_text("Correct Answer"), inner.maybe_text("Correct Option"))
    subject = fields.maybe_text("subject_name")
    return case_of(fields, question, gold, options=options, tags={"subject": subject} if subject else {})


def medical_o1_case(fields: Fields) -> Case:
    """medical-o1's verifiable problems (Chen et al. 2024, arXiv:2412.18925): an open question, a short answer."""
    question = fields.text("Open-ended Verifiable Question")
    return case_of(fields, question, gold_answer(fields, fields.text("Ground-True Answer")))


def medical_o1_sft_case(fields: Fields) -> Case:
    """medical-o1's demonstrations: the reasoning in `Complex_CoT`, a whole text in `Response`."""
    question, response = fields.text("Question"), fields.text("Response")
    shown = Demonstration(fields.text("Complex_CoT"), response)
    return case_of(fields, question, Answer("text", response), demonstration=shown)


def healthbench_case(fields: Fields) -> Case:
    """HealthBench (Arora et al. 2025, arXiv:2505.08775): a chat, and rubrics, a column for a judge of yours."""
    chat = chat_case(fields, read_messages(fields, "prompt"))
    return Case(**{**vars(chat), "id": fields.maybe_text("prompt_id") or chat.id, "columns": fields.rest()})


def pubmedqa_case(fields: Fields) -> Case:
    """PubMedQA (Jin et al. 2019, arXiv:1909.06146), in the authors' columns or the Hub's lower-case ones."""
    authors = "QUESTION" in fields.values
    question = fields.text("QUESTION" if authors else "question")
    if authors:
        passages, headings = fields.texts("CONTEXTS"), fields.texts("LABELS")
    else:
        inner = Fields(fields.mapping("context"), fields.place, fields.position)
        passages, headings = inner.texts("contexts"), inner.texts("labels")
    if len(headings) == len(passages):
        passages = tuple(f"{name}: {text}" for name, text in zip(headings, passages, strict=True))
    decision = fields.text("final_decision").lower()
    if decision not in LABELS:
        fields.fail(f"the answer `{decision}` is not one of {', '.join(LABELS)}", "Correct it.")
    conclusion = fields.maybe_text("LONG_ANSWER" if authors else "long_answer")
    identity = fields.maybe_text("id") or fields.maybe_text("pubid")
    case = Case(
        id=identity or f"{fields.position:06d}",
        question=f"{question} Answer yes, no or maybe.",
        gold=Answer("label", decision),
        context=passages,
    )
    demonstration = Demonstration(conclusion, gold_text(case)) if conclusion else None
    return Case(**{**vars(case), "demonstration": demonstration, "columns": fields.rest()})
