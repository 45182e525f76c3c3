"""Published questions: CaseHOLD and LegalBench."""

from __future__ import annotations

from grandrounds.cases.formats.fields import LETTERS, Fields, choice
from grandrounds.cases.formats.general import case_of
from grandrounds.types import Answer, Case

HOLDINGS = 5


def casehold_case(fields: Fields) -> Case:
    """CaseHOLD (Zheng et al. 2021, arXiv:2104.08671): which of five holdings the text cites; `label` from 0."""
    passage = fields.text("citing_prompt")
    texts = [fields.maybe_text(f"holding_{number}") for number in range(HOLDINGS)]
    options = {letter: text for letter, text in zip(LETTERS, texts, strict=False) if text}
    label = fields.number("label")
    if label is None or label not in range(HOLDINGS):
        fields.fail(
            f"`label` is {fields.values.get('label')!r}", f"It should be a number, 0 to {HOLDINGS - 1}."
        )
    gold = choice(fields, options, None, LETTERS[int(label)])
    return case_of(
        fields,
        "Which holding belongs where the text says <HOLDING>?",
        gold,
        options=options,
        context=(passage,),
    )


def legalbench_case(fields: Fields) -> Case:
    """LegalBench (Guha et al. 2023, arXiv:2308.11462): `text` with the question in it, and a label as the answer."""
    question, answer = fields.text("text"), fields.text("answer")
    fields.get("index")
    return case_of(fields, question, Answer("label", answer))
