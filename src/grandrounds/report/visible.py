"""Makes any text fit to be shown: what cannot be seen becomes visible, what is endless is cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from grandrounds.evaluation.result import Answered, CaseResult
from grandrounds.web.visible import cut, visible

# Characters that are shown of what should be short: an answer, an option, an id.
LONGEST_SHORT, MOST_LISTED = 400, 20


def short(text: str) -> str:
    """What should be short, cut."""
    return text if len(text) <= LONGEST_SHORT else f"{text[:LONGEST_SHORT]}… ({len(text):,} characters)"


def shown_case(case: CaseResult) -> CaseResult:
    """The case with its long texts cut. The id stays."""
    return replace(
        case,
        question=cut(case.question),
        options={letter: short(text) for letter, text in case.options.items()},
        option_notes={short(text): short(note) for text, note in case.option_notes.items()},
        gold=short(case.gold),
    )


def shown_answer(answered: Answered) -> Answered:
    """The response with its long texts cut."""
    check = answered.check
    if check is not None:
        check = replace(check, false_claims=_few(check.false_claims))
    return replace(
        answered,
        answer=None if answered.answer is None else short(answered.answer),
        reasoning=None if answered.reasoning is None else cut(answered.reasoning),
        text=cut(answered.text),
        invented=_few(answered.invented),
        check=check,
    )


def _few(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(short(text) for text in list(texts)[:MOST_LISTED])


def finalised(value: Any) -> Any:
    """For a template: text made visible, anything else, and what is HTML already, as it is."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
