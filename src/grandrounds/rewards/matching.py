"""Whether an answer is the gold answer, and which layer decided.

    choice   letter, option text, or both in agreement                             (choice.py)
    choices  all right options and no other                                        (choice.py)
    text     normalised, then abbreviations, names, amounts, dates, similarity     (layers.py, text.py)
    number   value within tolerance, units converted                               (numbers.py, units.py)
    label    the whole answer, or its first words before a delimiter

A domain's matcher judges the domain's own kinds of answer. There is one set of rules, for every recipe. An answer may
be wrapped in anything (surface.py), and what is unclear is never right. The meaning of an answer is settled before it
is compared with the gold answer, so hedging ("B or C", "yes or no", two diagnoses) is never right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from grandrounds.domain import every
from grandrounds.rewards.choice import read_choice, read_choices
from grandrounds.rewards.layers import same_text
from grandrounds.rewards.numbers import is_fraction, read_number
from grandrounds.rewards.surface import one_line, plain, said, unwrap, without_reason
from grandrounds.rewards.text import negated, normalise, written_out
from grandrounds.rewards.units import equal_numbers, in_units_of, monovalent
from grandrounds.types import Answer, Case, Verdict

LABELS = frozenset({"yes", "no", "maybe", "true", "false", "unknown", "uncertain"})
# Longer texts are not answers: a page of text may contain the right words by chance.
LONGEST_ANSWER = 2000
_FIRST_WORD = re.compile(
    r"^([a-z]+(?: [a-z]+){0,2}?)(?:\s?[,.;:!(\n–—-]|\s(?:it|they|he|she|there|this|that)\s)", re.IGNORECASE
)
# After one of these an explanation may take the answer back.
_TAKEN_BACK = re.compile(
    r"\b(?:no|not|nor|or|but|however|actually|wait|instead|alternatively|rather|correction|versus|vs|also|could|might|may|maybe|possibl[ey]|consider)\b|n't\b",
    re.IGNORECASE,
)


def judge(answer_text: str | None, case: Case) -> Verdict:
    """Judge the text inside the answer tags against the case's gold answer. Never raises for any text."""
    if case.gold.kind == "none":
        return _verdict(False, "no gold answer")
    if answer_text is None or not answer_text.strip():
        return _verdict(False, "no answer")
    if len(answer_text) > LONGEST_ANSWER:
        return _verdict(False, "too long")
    if case.gold.kind == "choice" and case.options:
        return _judge_choice(answer_text, case)
    if case.gold.kind == "choices":
        return _judge_choices(answer_text, case)
    if case.gold.kind == "number":
        return _judge_number(answer_text, case)
    if case.gold.kind == "label":
        return _judge_label(answer_text, case.gold)
    if matcher := every("matchers").get(case.gold.kind):
        return matcher(answer_text, case)
    return _judge_text(answer_text, case.gold)


def _verdict(correct: bool, layer: str, given: str | None = None) -> Verdict:
    return Verdict(correct, float(correct), layer, given)


def _judge_choice(answer: str, case: Case) -> Verdict:
    letter, layer = read_choice(answer, case.options)
    return _verdict(letter is not None and letter == case.gold.letter, layer, letter)


def _judge_choices(answer: str, case: Case) -> Verdict:
    """Right where exactly the gold options are named; the score is the share of both sets that they have in common."""
    given, gold = read_choices(answer, case.options), frozenset(case.gold.letters)
    if given is None:
        return _verdict(False, "no options")
    share = len(given & gold) / len(given | gold)
    return Verdict(given == gold, share, "letters", ", ".join(sorted(given)))


def _judge_text(answer: str, gold: Answer) -> Verdict:
    final, wanted = said(answer), unwrap(gold.text)
    text = plain(final)
    # The same words with less and less around them. What is removed never changes their meaning.
    for form in dict.fromkeys(
        (one_line(unwrap(answer)), one_line(final), text, without_reason(text), _explained(final))
    ):
        layer = same_text(form, wanted, gold.synonyms)
        if layer is not None:
            return _verdict(True, layer, written_out(gold.text))
    given = written_out(without_reason(text))
    denies = negated(given) and not negated(written_out(gold.text))
    return _verdict(False, "negated" if denies else "different", given)


def _explained(answer: str) -> str:
    """The first line of an answer with sentences below it that take nothing back; else ""."""
    first, _, rest = answer.strip().partition("\n")
    lines = [line for line in rest.splitlines() if line.strip()]
    explains = lines and all(len(line.split()) >= 4 for line in lines) and not _TAKEN_BACK.search(rest)
    return plain(first) if explains else ""


def _judge_number(answer: str, case: Case) -> Verdict:
    gold = case.gold
    value, unit = gold.value, gold.unit
    if value is None:
        read = read_number(gold.text)
        if read is None:
            return _judge_text(answer, gold)
        value, unit = read[0], unit or read[1]
    text = plain(said(answer))
    given = read_number(text, unit)
    if given is None:
        return _verdict(False, "no number")
    if unit == "%" and given[1] is None and is_fraction(text):
        given = (100 * given[0], unit)
    equivalents = monovalent(f"{case.question} {gold.text} {answer}")
    wanted, unit = in_units_of(value, unit, answer, given[0])
    correct, layer = equal_numbers(given, wanted, unit, gold.tolerance, equivalents=equivalents)
    stands_for = (wanted, unit) if correct else given
    return _verdict(correct, layer, f"{stands_for[0]:.6g} {stands_for[1] or unit or ''}".strip())


def _named(text: str, labels: Iterable[str]) -> set[str]:
    """The labels that a normalised text names; "not due" does not name "due"."""
    named = set()
    for label in sorted(labels, key=len, reverse=True):
        pattern = rf"(?<!\S){re.escape(label)}(?!\S)"
        if label and re.search(pattern, text):
            named.add(label)
            text = re.sub(pattern, "|", text)
    return named


def _judge_label(answer: str, gold: Answer) -> Verdict:
    label = read_label(answer, gold)
    if label is None:
        return _verdict(False, "no label")
    correct = label == normalise(gold.text) or any(label == normalise(other) for other in gold.synonyms)
    return _verdict(correct, "label", label)


def read_label(answer: str, gold: Answer) -> str | None:
    """The label that an answer is, or begins with before a delimiter. None where it names two labels or none.

    Known labels are yes / no / maybe and the like, and those of the case's source. Any other short answer is its own
    label.
    """
    known = LABELS | {normalise(label) for label in (gold.text, *gold.labels)}
    text = plain(said(answer))
    whole = normalise(text)
    words = whole.split()
    named_labels = _named(whole, known)
    if whole in known:
        return whole
    lines = [plain(line) for line in said(answer).splitlines() if line.strip()]
    if match := _FIRST_WORD.match(text):
        first = normalise(match[1])
        denied = match[0][-1].isspace() and first != "no" and negated(whole)  # "yes it is not"
        return first if first in known and named_labels == {first} and not denied else None
    if len(lines) > 1 and (first := normalise(lines[0])) in known:
        return first if named_labels == {first} else None
    return whole if not named_labels and 0 < len(words) <= 4 else None
