"""Turns cases into prompts: writes the messages, renders the chat template, and checks that the completion fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from grandrounds.cases.ask import ask
from grandrounds.errors import PolicyError
from grandrounds.policy.chat import encode_prompt, encode_raw
from grandrounds.policy.model import Policy
from grandrounds.recipe import PromptRecipe
from grandrounds.types import Case, Prompt


def make_prompt(policy: Policy, case: Case, recipe: PromptRecipe, max_new_tokens: int) -> Prompt:
    """The case as the policy sees it; PolicyError when prompt and longest completion exceed its context."""
    prompt = render_prompt(policy.tokenizer, case, recipe)
    if not _fits(policy, prompt, max_new_tokens):
        raise PolicyError(
            f"the prompt has {len(prompt.tokens)} tokens; with max_new_tokens = {max_new_tokens} "
            f"that is more than the model's context of {policy.max_positions}",
            where=f"case {case.id}",
            hint="Lower max_new_tokens, shorten the case, or choose a model with a longer context.",
        )
    return prompt


def make_prompts(
    policy: Policy, cases: Iterable[Case], recipe: PromptRecipe, max_new_tokens: int
) -> list[Prompt]:
    """`make_prompt` for each case, in order."""
    return [make_prompt(policy, case, recipe, max_new_tokens) for case in cases]


def split_by_length(
    policy: Policy, cases: Iterable[Case], recipe: PromptRecipe, max_new_tokens: int
) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts that leave room for the longest completion within the model's context, and those that do not."""
    prompts = [render_prompt(policy.tokenizer, case, recipe) for case in cases]
    fitting = [prompt for prompt in prompts if _fits(policy, prompt, max_new_tokens)]
    return fitting, [prompt for prompt in prompts if not _fits(policy, prompt, max_new_tokens)]


def fitting_prompt(policy: Policy, case: Case, recipe: PromptRecipe, max_new_tokens: int) -> Prompt | None:
    """The case as the policy sees it; None where no room is left for the longest completion."""
    prompt = render_prompt(policy.tokenizer, case, recipe)
    return prompt if _fits(policy, prompt, max_new_tokens) else None


def begun_prompt(policy: Policy, prompt: Prompt, response: str, max_new_tokens: int) -> Prompt | None:
    """The prompt with the beginning of its response written already; None where no room is left for the rest."""
    written = response.removeprefix(prompt.prefilled) if prompt.prefilled else response
    further = policy.tokenizer.encode(written, add_special_tokens=False)
    tokens = np.concatenate([prompt.tokens, np.asarray(further, dtype=np.int64)])
    begun = replace(prompt, tokens=tokens, text=prompt.text + written, prefilled=response)
    return begun if _fits(policy, begun, max_new_tokens) else None


def render_prompt(tokenizer: Any, case: Case, recipe: PromptRecipe) -> Prompt:
    """The case as the policy sees it, however long it is."""
    if recipe.raw and isinstance(case.question, str):
        return Prompt(case=case, tokens=encode_raw(tokenizer, case.question), text=case.question)
    messages = ask(case, recipe)
    tokens, text, prefilled = encode_prompt(tokenizer, messages, recipe.template_arguments)
    return Prompt(case=case, tokens=tokens, text=text, prefilled=prefilled, messages=messages)


def _fits(policy: Policy, prompt: Prompt, max_new_tokens: int) -> bool:
    return len(prompt.tokens) + max_new_tokens <= policy.max_positions
