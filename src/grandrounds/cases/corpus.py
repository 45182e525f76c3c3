"""The texts that a scratch model's tokenizer is trained on."""

from __future__ import annotations

from collections.abc import Iterator

from grandrounds.cases.ask import ask, gold_text
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.types import Case, CaseBook


def corpus(recipe: Recipe, book: CaseBook, grammar: Grammar) -> Iterator[str]:
    """The prompts and answers of the training cases."""
    for case in book.train:
        for message in ask(case, recipe.prompt):
            yield message.content
        yield _answer_text(case, grammar)


def _answer_text(case: Case, grammar: Grammar) -> str:
    if case.demonstration is None:
        return grammar.render(None, gold_text(case))
    return grammar.render(case.demonstration.reasoning, case.demonstration.answer)
