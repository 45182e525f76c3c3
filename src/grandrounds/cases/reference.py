"""Open book: each option comes with what is typical of it, by what the source itself knows.

A model then has to compare a case with a text, as one does with a guideline, instead of knowing it by heart. That is
what a small language model can learn from few cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from grandrounds.errors import CaseError
from grandrounds.types import Case, CaseBook


@runtime_checkable
class Textbook(Protocol):
    """Knowledge that can say what is typical of a candidate."""

    def typical(self, name: str, count: int) -> Sequence[str]:
        """At most so many findings, the most typical first; none for an unknown candidate."""
        ...


def with_reference(book: CaseBook, count: int, source: str) -> CaseBook:
    """The book, each case with options with at most `count` typical findings of each. CaseError where nobody knows
    any."""
    knowledge = book.knowledge
    if not isinstance(knowledge, Textbook):
        raise CaseError(
            "nothing is known of these cases' options, so there is no reference to show",
            where=f"cases.reference, {source}",
            hint="Leave cases.reference out, or put what is known into each case's `context`.",
        )

    def shown(cases: Sequence[Case]) -> list[Case]:
        return [_with_lines(case, knowledge, count) for case in cases]

    held_out = {name: shown(cases) for name, cases in book.held_out.items()}
    return replace(book, train=shown(book.train), test=shown(book.test), held_out=held_out)


def _with_lines(case: Case, knowledge: Textbook, count: int) -> Case:
    lines = [f"{name}: {', '.join(knowledge.typical(name, count))}." for name in case.options.values()]
    return replace(case, context=(*lines, *case.context))
