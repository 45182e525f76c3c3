"""How long the prompts are: the longest one in tokens, where cases and tokenizer are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grandrounds.cases.ask import ask
from grandrounds.cases.corpus import corpus
from grandrounds.cases.load import load_cases
from grandrounds.errors import CaseError, GrandRoundsError, PolicyError
from grandrounds.policy.chat import encode_prompt
from grandrounds.policy.load import SCRATCH, load_tokenizer
from grandrounds.policy.scratch import build_tokenizer
from grandrounds.recipe import PromptRecipe, Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.types import Case, CaseBook

# Where nothing is known: a clinical vignette with options and the built-in system message has 300 to 500.
ASSUMED_TOKENS = 512
# The prompts with the most letters have the most tokens, nearly.
CANDIDATES = 32


@dataclass(frozen=True)
class Prompts:
    """tokens: of the longest prompt.

    vocabulary: of a scratch model's tokenizer, at most. origin: where the numbers come from, for the user.
    book: the cases, where they were read.
    """

    tokens: int
    vocabulary: int
    origin: str
    book: CaseBook | None = field(default=None, repr=False, compare=False)

    @property
    def cases(self) -> int | None:
        """How many there are to train on, where they were read."""
        return None if self.book is None else len(self.book.train)


def measured_prompts(recipe: Recipe, given: int | None = None) -> Prompts:
    """Read the cases and count tokens; `given` tokens, or an assumption that says so, where that cannot be done."""
    largest = recipe.policy.scratch.vocabulary + len(_grammar(recipe).tags)
    if given is not None:
        return Prompts(given, largest, "as given")
    try:
        book = load_cases(recipe.cases, seed=recipe.seed)
        tokenizer = _tokenizer(recipe, book)
        tokens = longest_prompt(tokenizer, book.train, recipe.prompt)
    except (CaseError, PolicyError) as error:
        return Prompts(ASSUMED_TOKENS, largest, f"assumed: {_short(error)}")
    return Prompts(tokens, len(tokenizer), f"the longest of {len(book.train):,} cases", book)


def prompts_before_loading(recipe: Recipe, book: CaseBook) -> Prompts:
    """As `measured_prompts`, at no cost: a scratch model has no tokenizer yet, so that its prompts count as 1 token."""
    vocabulary = recipe.policy.scratch.vocabulary
    if recipe.policy.model == SCRATCH:
        return Prompts(1, vocabulary, "not counted yet", book)
    tokens = longest_prompt(load_tokenizer(recipe.policy), book.train, recipe.prompt)
    return Prompts(tokens, vocabulary, f"the longest of {len(book.train):,} cases", book)


def longest_prompt(tokenizer: Any, cases: Sequence[Case], prompt: PromptRecipe) -> int:
    """Tokens of the longest prompt, of those with the most letters."""
    asked = [ask(case, prompt) for case in cases]
    asked.sort(key=lambda messages: sum(len(message.content) for message in messages))
    return max((len(encode_prompt(tokenizer, messages)[0]) for messages in asked[-CANDIDATES:]), default=1)


def _tokenizer(recipe: Recipe, book: CaseBook) -> Any:
    if recipe.policy.model != SCRATCH:
        return load_tokenizer(recipe.policy)
    grammar = _grammar(recipe)
    texts = corpus(recipe, book, grammar)
    return build_tokenizer(texts, recipe.policy.scratch.vocabulary, grammar.tags)


def _grammar(recipe: Recipe) -> Grammar:
    return Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)


def _short(error: GrandRoundsError) -> str:
    return f"{error.where}: {error.what}" if error.where else error.what
