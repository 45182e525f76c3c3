"""Questions on a passage, and questions whose wrong answers have columns of their own."""

from __future__ import annotations

from collections.abc import Mapping

from grandrounds.cases.formats.fields import LETTERS, Fields, choice
from grandrounds.cases.formats.general import case_of
from grandrounds.cases.split import keyed_unit
from grandrounds.types import Answer, Case

TRUTHS = {"true": "yes", "yes": "yes", "1": "yes", "false": "no", "no": "no", "0": "no"}


def boolq_case(fields: Fields) -> Case:
    """BoolQ (arXiv:1905.10044): a `question` on a `passage`, and `answer`, true or false: yes or no."""
    question, passage = fields.text("question"), fields.text("passage")
    label = TRUTHS.get(fields.text("answer").lower())
    if label is None:
        fields.fail(f"the answer `{fields.text('answer')}` is neither true nor false", "Correct it.")
    gold = Answer("label", label, synonyms=("true",) if label == "yes" else ("false",))
    return case_of(fields, question, gold, context=(passage,))


def squad_case(fields: Fields) -> Case:
    """SQuAD (arXiv:1606.05250): `answers` holds spans of the `context`; each of them is right."""
    question, context = fields.text("question"), fields.text("context")
    texts = fields.mapping("answers").get("text")
    spans = list(dict.fromkeys(str(text).strip() for text in texts or [] if str(text).strip()))
    if not spans:
        fields.fail("no answer is given: the passage has none", "Remove the row.")
    return case_of(fields, question, Answer("text", spans[0], synonyms=tuple(spans[1:])), context=(context,))


def sciq_case(fields: Fields) -> Case:
    """SciQ (arXiv:1707.06209): `correct_answer` and three `distractor`s; `support` is a passage."""
    wrong = [fields.text(f"distractor{number}") for number in (1, 2, 3)]
    support = fields.maybe_text("support")
    return _shuffled(
        fields, fields.text("question"), fields.text("correct_answer"), wrong, (support,) if support else ()
    )


def gpqa_case(fields: Fields) -> Case:
    """GPQA (arXiv:2311.12022): `Correct Answer` and three of `Incorrect Answer 1` and so on."""
    wrong = [fields.text(f"Incorrect Answer {number}") for number in (1, 2, 3)]
    return _shuffled(fields, fields.text("Question"), fields.text("Correct Answer"), wrong, ())


def _shuffled(fields: Fields, question: str, right: str, wrong: list[str], context: tuple[str, ...]) -> Case:
    """Options in an order that the texts alone decide."""
    texts = sorted([right, *wrong], key=lambda text: keyed_unit(0, question, text))
    options: Mapping[str, str] = dict(zip(LETTERS, texts, strict=False))
    gold = choice(fields, dict(options), right, None)
    return case_of(fields, question, gold, options=options, context=context)
