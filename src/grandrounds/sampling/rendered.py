"""One case as a model reads it: token by token, with what its chat template drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grandrounds.cases.ask import ask
from grandrounds.policy.chat import encode_prompt, encode_raw, plain_note
from grandrounds.recipe import PromptRecipe
from grandrounds.types import Case


@dataclass(frozen=True)
class Rendered:
    """A prompt's tokens as text, in order; what the template opened of the response; and what to look at."""

    tokens: tuple[str, ...]
    prefilled: str
    concerns: tuple[str, ...]


def rendered(tokenizer: Any, case: Case, recipe: PromptRecipe) -> Rendered:
    """The case as rendered by the tokenizer's chat template. PolicyError where the template refuses it."""
    if recipe.raw and isinstance(case.question, str):
        raw = encode_raw(tokenizer, case.question)
        return Rendered(tuple(tokenizer.decode([token]) for token in raw), "", ())
    messages = ask(case, recipe)
    ids, text, prefilled = encode_prompt(tokenizer, messages, recipe.template_arguments)
    concerns = [
        f"The template drops the {message.role} message that begins `{_begin(message.content)}`."
        for message in messages
        if message.content.strip() and message.content.strip() not in text
    ]
    template = str(tokenizer.chat_template)
    concerns += [
        f"The template has no switch `{name}`: prompt.template_arguments.{name} changes nothing."
        for name in recipe.template_arguments
        if name not in template
    ]
    if note := plain_note(tokenizer).strip():
        concerns.append(note)
    if prefilled:
        concerns.append(f"The template itself opens the response with `{prefilled.strip()}`.")
    return Rendered(tuple(tokenizer.decode([token]) for token in ids), prefilled, tuple(concerns))


def _begin(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
