"""Robustness: does an answer stay when only the options' order or number changes? Measured by asking again, greedily.

    shuffled       the options stand in another order, the right one under another letter
    none_added     "None of the above" is added as the last option; it is wrong
    none_instead   the right option is taken out, and "None of the above" added; it is right

Conversations have their options within their messages, and are left out. So are cases with an option that speaks of
others ("all of the above", "A and B").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from grandrounds.evaluation.faithfulness import Asking
from grandrounds.evaluation.progress import Done, part
from grandrounds.evaluation.trials import Disturbance, DisturbedCase, Robustness
from grandrounds.rewards.text import normalise
from grandrounds.types import Answer, Case, Prompt, Sample

NONE = "None of the above"
CHOICES = ("choice", "choices")
_SPEAKS_OF_OTHERS = re.compile(
    r"\b(?i:all|none|both|neither|either|any) (?i:of (?:the|these|those|them)|the above|above|answers?|options?)\b"
    r"|\b[A-H] (?:and|or|&) [A-H]\b"
)


def robustness(asking: Asking, prompts: Sequence[Prompt], progress: Done | None = None) -> Robustness:
    """Ask every case as it is, then with each change that applies to it and fits into the context."""
    changed = [
        (prompt, kind, again)
        for prompt in prompts
        for kind, case in disturbed(prompt.case, asking.seed)
        if (again := asking.ask(case)) is not None
    ]
    asked = list({prompt.case.id: prompt for prompt, _, _ in changed}.values())
    if not changed:
        return Robustness(())
    total = len(asked) + len(changed)
    plain, other = part(progress, 0, len(asked), total), part(progress, len(asked), len(changed), total)
    before = {sample.case.id: sample for sample in asking.answers(asked, plain)}
    after = asking.answers([again for _, _, again in changed], other)
    return Robustness(
        tuple(
            _trial(kind, before[prompt.case.id], sample)
            for (prompt, kind, _), sample in zip(changed, after, strict=True)
        )
    )


def disturbed(case: Case, seed: int) -> Iterator[tuple[Disturbance, Case]]:
    """Each change that applies to a case, with the changed case."""
    several = len(case.options) >= 2 and isinstance(case.question, str) and case.gold.kind in CHOICES
    if not several or any(_SPEAKS_OF_OTHERS.search(text) for text in case.options.values()):
        return
    yield "shuffled", _shuffled(case, seed)
    letters = [*case.options, _next(list(case.options)[-1])]
    if case.gold.kind != "choice" or letters[-1] in case.options:
        return
    yield "none_added", replace(case, options={**case.options, letters[-1]: NONE})
    others = [text for letter, text in case.options.items() if letter != case.gold.letter]
    options = dict(zip(letters, [*others, NONE], strict=False))
    last = list(options)[-1]
    yield "none_instead", replace(case, options=options, gold=Answer("choice", NONE, letter=last))


def _shuffled(case: Case, seed: int) -> Case:
    """The options in an order drawn by lot, in which the (first) right option has another letter."""
    letters = list(case.options)
    order = sorted(letters, key=lambda letter: _lot(seed, case.id, letter))
    first = case.gold.letter or min(case.gold.letters, default=letters[0])
    if order.index(first) == letters.index(first):
        order = [*order[1:], order[0]]
    place = {old: new for new, old in zip(letters, order, strict=True)}
    gold = replace(
        case.gold,
        letter=None if case.gold.letter is None else place[case.gold.letter],
        letters=tuple(sorted(place[letter] for letter in case.gold.letters)),
    )
    return replace(
        case,
        options={new: case.options[old] for new, old in zip(letters, order, strict=True)},
        gold=gold,
    )


def _next(letter: str) -> str:
    return chr(ord(letter[-1]) + 1)


def _trial(kind: Disturbance, before: Sample, after: Sample) -> DisturbedCase:
    said = _said(after)
    return DisturbedCase(
        case_id=before.case.id,
        kind=kind,
        before=_said(before),
        after=said,
        right_before=before.verdict.correct,
        right_after=after.verdict.correct,
        chose_none=said == normalise(NONE),
    )


def _said(sample: Sample) -> str | None:
    """The texts of the options that an answer names; None where it names none."""
    given: str | None = sample.verdict.given
    options: Mapping[str, str] = sample.case.options
    if given is None:
        return None
    return "; ".join(sorted(normalise(options.get(letter, letter)) for letter in given.split(", ")))


def _lot(seed: int, *key: str) -> bytes:
    return hashlib.blake2b("\x1f".join((str(seed), *key)).encode(), digest_size=8).digest()
