"""Whether an answer is the gold answer, and which layer decided.

    choice   letter, option text, or both in agreement               (choice.py)
    choices  all right options and no other                          (choice.py)
    text     normalised, then abbreviations, synonyms, similarity    (text.py)
    number   value within tolerance, units converted                 (numbers.py)
    label    the whole answer, or its first word before a delimiter

A domain's matcher judges the domain's own kinds of answer. The layers are tried in this order on the one answer that
was given. The meaning of an answer is settled before it is compared with the gold answer, so hedging ("B or C", "yes or
no", two diagnoses) is never right.
"""

from __future__ import annotations

import re

from grandrounds.domain import every
from grandrounds.rewards.choice import one_line, plain, read_choice, read_choices, without_reason
from grandrounds.rewards.numbers import equal_numbers, read_number
from grandrounds.rewards.text import negated, normalise, similar, written_out
from grandrounds.types import Answer, Case, Verdict

LABELS = frozenset({"yes", "no", "maybe", "true", "false", "unknown", "uncertain"})
# Longer texts are not answers: a page of text may contain the right words by chance.
LONGEST_ANSWER = 2000
_FIRST_WORD = re.compile(r"^([a-z]+)\s?[,.;:!(\n-]", re.IGNORECASE)


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
        return _judge_number(answer_text, case.gold)
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
    text = plain(answer)
    # The same words with less and less around them. What is removed never changes their meaning.
    for form in dict.fromkeys((one_line(answer), text, without_reason(text))):
        layer = same_text(form, gold.text, gold.synonyms)
        if layer is not None:
            return _verdict(True, layer, written_out(gold.text))
    given = written_out(without_reason(text))
    denies = negated(given) and not negated(written_out(gold.text))
    return _verdict(False, "negated" if denies else "different", given)


def same_text(text: str, gold: str, synonyms: tuple[str, ...] = ()) -> str | None:
    """The layer by which two texts are the same, or None."""
    if normalise(text) == normalise(gold) != "":
        return "normalised"
    given = written_out(text)
    if given == written_out(gold) != "":
        return "abbreviation"
    if any(given == written_out(synonym) != "" for synonym in synonyms):
        return "synonym"
    if any(similar(given, written_out(name)) for name in (gold, *synonyms)):
        return "similarity"
    return None


def _judge_number(answer: str, gold: Answer) -> Verdict:
    value, unit = gold.value, gold.unit
    if value is None:
        read = read_number(gold.text)
        if read is None:
            return _judge_text(answer, gold)
        value, unit = read[0], unit or read[1]
    given = read_number(plain(answer))
    if given is None:
        return _verdict(False, "no number")
    correct, layer = equal_numbers(given, value, unit, gold.tolerance)
    stands_for = (value, unit) if correct else given
    return _verdict(correct, layer, f"{stands_for[0]:.6g} {stands_for[1] or unit or ''}".strip())


def _judge_label(answer: str, gold: Answer) -> Verdict:
    label = read_label(answer, gold.text)
    if label is None:
        return _verdict(False, "no label")
    correct = label == normalise(gold.text) or any(label == normalise(other) for other in gold.synonyms)
    return _verdict(correct, "label", label)


def read_label(answer: str, gold: str = "") -> str | None:
    """The label that an answer is, or begins with before a delimiter. None where it names two labels or none.

    Known labels are yes / no / maybe and the like, and the gold label. Any other short answer is its own label.
    """
    known = LABELS | {normalise(gold)}
    text = plain(answer)
    whole = normalise(text)
    words = whole.split()
    named = known.intersection(words)
    if whole in known:
        return whole
    if match := _FIRST_WORD.match(text):
        first = normalise(match[1])
        return first if first in known and named == {first} else None
    return whole if not named and 0 < len(words) <= 4 else None
