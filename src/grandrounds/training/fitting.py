"""Cases and demonstrations that are too long: found before the first step, then left out or refused together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grandrounds.cases.ask import gold_text
from grandrounds.errors import CaseError
from grandrounds.policy.model import Policy
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.prompts import split_by_length
from grandrounds.types import Case, CaseBook

# Of many cases that are too long so many are named in an error.
NAMED = 5
TOO_LONG = "prompt too long for the model's context"


def without_too_long(policy: Policy, book: CaseBook, recipe: Recipe) -> tuple[CaseBook, str]:
    """The book without training cases that do not fit into the context, and a line that says so or "".

    Raises CaseError where `cases.too_long` is `error`, or no case would remain.
    """
    limit = recipe.grpo.max_new_tokens
    fitting, too_long = split_by_length(policy, book.train, recipe.prompt, limit)
    if not too_long:
        return book, ""
    room = policy.max_positions - limit
    lines = [
        f"case {prompt.case.id}: its prompt has {len(prompt.tokens):,} tokens, {room:,} fit"
        for prompt in too_long
    ]
    longest = max(len(prompt.tokens) for prompt in too_long)
    what = (
        f"{len(too_long):,} of {len(book.train):,} training cases do not fit: their prompts have up to {longest:,} "
        f"tokens, and the model's context of {policy.max_positions:,} less grpo.max_new_tokens leaves {room:,}"
    )
    if recipe.cases.too_long == "error" or not fitting:
        raise CaseError(
            f"{what} ({_ids([prompt.case for prompt in too_long])})",
            where="cases.too_long",
            hint="Lower grpo.max_new_tokens, choose a model with a longer context, or set cases.too_long=skip.",
        )
    dropped = {**book.dropped, TOO_LONG: len(too_long)}
    kept = [prompt.case for prompt in fitting]
    return replace(book, train=kept, dropped=dropped, left_out=[*book.left_out, *lines]), f"Left out: {what}."


def demonstration_tokens(
    policy: Policy, grammar: Grammar, recipe: Recipe, case: Case, prefilled: str
) -> np.ndarray | None:
    """The target of a demonstration, int64 [T]; None where it is longer than `grpo.max_new_tokens` and not cut."""
    limit, shown = recipe.grpo.max_new_tokens, case.demonstration
    if not recipe.sft.reasoning or shown is None:
        target = policy.encode_response(grammar.render(None, gold_text(case)).removeprefix(prefilled))
        return target if len(target) <= limit else None

    def encoded(words: int) -> np.ndarray:
        """With so many words of the reasoning; all of them keep its line breaks."""
        reasoning = shown.reasoning if words == len(split) else " ".join(split[:words])
        return policy.encode_response(grammar.render(reasoning, shown.answer).removeprefix(prefilled))

    split = shown.reasoning.split()
    whole = encoded(len(split))
    if len(whole) <= limit:
        return whole
    if recipe.sft.too_long != "cut":
        return None
    low, high = 0, len(split) - 1  # the most words that fit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(encoded(middle)) <= limit else (low, middle - 1)
    return encoded(low) if low else None


def too_long_demonstrations(cases: Sequence[Case], of: int, recipe: Recipe) -> str:
    """A line about the demonstrations left out. CaseError where `sft.too_long` is `error`, or none would remain."""
    what = f"{len(cases):,} of {of:,} demonstrations are longer than grpo.max_new_tokens = {recipe.grpo.max_new_tokens}"
    if recipe.sft.too_long == "error" or len(cases) == of:
        raise CaseError(
            f"{what} ({_ids(cases)})",
            where="sft.too_long",
            hint="Raise grpo.max_new_tokens, shorten the demonstrations, or set sft.too_long=cut.",
        )
    return f"Left out of the warm-up: {what}."


def _ids(cases: Sequence[Case]) -> str:
    """The first cases by id."""
    more = f" and {len(cases) - NAMED:,} more" if len(cases) > NAMED else ""
    return ", ".join(f"case {case.id}" for case in cases[:NAMED]) + more
