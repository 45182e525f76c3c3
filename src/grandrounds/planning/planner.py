"""Plans a run: reads the prompts, counts the model, measures it, and times a round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow
import torch

from grandrounds.cases.ask import ask
from grandrounds.cases.corpus import corpus
from grandrounds.cases.load import load_cases
from grandrounds.errors import CaseError, GrandRoundsError, PolicyError, RunError
from grandrounds.hub import known_shape
from grandrounds.machine import device_memory, parse_memory, process_memory, size
from grandrounds.planning.measure import counted, generous, measured
from grandrounds.planning.need import kv_cache, work_of
from grandrounds.planning.plan import Plan
from grandrounds.planning.timing import round_seconds
from grandrounds.policy.chat import encode_prompt
from grandrounds.policy.limits import context_length
from grandrounds.policy.load import SCRATCH, configuration, device_of, load_tokenizer
from grandrounds.policy.precision import PRECISIONS, choose_precision, mix_of
from grandrounds.policy.scratch import build_tokenizer
from grandrounds.recipe import MEMORY, Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.types import CaseBook

# Of a prompt that cannot be read. A clinical vignette with options and the built-in system message has 300 to 500.
ASSUMED_TOKENS = 512
# Only the prompts with the most letters are tokenized to find the longest.
CANDIDATES = 32


@dataclass(frozen=True)
class Prompts:
    """tokens: of the longest. vocabulary: of a scratch model's tokenizer, at most. origin: how these were found."""

    tokens: int
    vocabulary: int
    origin: str
    book: CaseBook | None = None


def plan(
    recipe: Recipe,
    *,
    memory: int | str | None = None,
    prompt_tokens: int | None = None,
    probe: bool = True,
) -> Plan:
    """Plan a run without loading the model, except to time a round.

    memory: of another device, "16GB" or in bytes; default: this one's. prompt_tokens: of the longest prompt; default:
    counted in the recipe's cases, or assumed where these cannot be read. probe: time a few decoding steps and one
    update of the real model, if it fits here.
    Raises the `GrandRoundsError` family: a model that is missing, or whose memory cannot be planned.
    """
    there = parse_memory(memory) if isinstance(memory, str) else memory
    prompts = _prompts(recipe, prompt_tokens)
    made = _planned(recipe, prompts, there)
    if not probe:
        untimed = "not asked for"
    elif there is not None:
        untimed = "it is for another device"
    elif made.fits is False:
        untimed = "it does not fit here"
    elif recipe.policy.model == SCRATCH and prompts.book is None:
        untimed = "its tokenizer is made from the cases, which were not read"
    else:
        try:
            return replace(made, seconds=round_seconds(recipe, made.work, prompts.book))
        except PolicyError:
            if known_shape(recipe.policy.model) is None:
                raise
            untimed = "the model's weights are not here, and could not be fetched"
    return replace(made, untimed=untimed)


def check_memory(recipe: Recipe, book: CaseBook) -> str:
    """RunError for a run that cannot fit into this device's memory, a warning for one that may not, else "".

    A run cannot fit if it would not fit without heap fragmentation. A model that cannot be planned passes: loading it
    says what is wrong with it.
    """
    try:
        # A scratch model has no tokenizer yet, and its prompts are short.
        scratch = recipe.policy.model == SCRATCH
        tokens = 1 if scratch else longest_prompt(load_tokenizer(recipe.policy), book, recipe)
        made = _planned(recipe, Prompts(tokens, recipe.policy.scratch.vocabulary, "", book), quick=True)
    except GrandRoundsError:
        return ""
    if made.memory is None or made.fits:
        return ""
    need, change = made.need, made.smallest_change
    amounts = f"needs about {size(need['peak'])}, and {size(made.memory)} are there"
    settings = " and ".join(f"{key} to {value}" for key, value in change.items())
    same = ", which does not change the result" if list(change) == ["grpo.tokens_per_pack"] else ""
    lora = "" if need["adapters"] else "policy.adapter: lora, "
    hint = f"Lower {settings}{same}" if change else f"Choose {lora}a smaller model or a larger machine"
    hint += "; `grandrounds plan` shows every part."
    if need["least"] <= made.memory:
        return f"Memory may run short: the run {amounts}. {hint}"
    keys = {"resident": "policy.model", "sampling": "grpo.group_size", "update": "grpo.tokens_per_pack"}
    raise RunError(f"the run {amounts}", where=keys[max(keys, key=lambda name: need[name])], hint=hint)


def counted_parts(recipe: Recipe) -> dict[str, int]:
    """The exact parts of a run's memory, without its cases; empty for a model that cannot be read."""
    if recipe.policy.model == MEMORY:
        return {}
    try:
        device, dtype = chosen_device(recipe)
        config = configuration(recipe.policy, recipe.policy.scratch.vocabulary)
        counts = counted(recipe, config, dtype, device)
    except GrandRoundsError:
        return {}
    parts = {name: count for name, count in counts.items() if name != "kv_token"}
    return {**parts, "KV cache": kv_cache(counts, work_of(recipe, 1))}


def chosen_device(recipe: Recipe, *, elsewhere: bool = False) -> tuple[str, torch.dtype]:
    """The device's name and the weights' type. elsewhere: the plan is for a device that need not be here.

    Raises RecipeError for a device that is not here, or that cannot offload activations.
    """
    policy = recipe.policy
    if elsewhere and policy.device.startswith("cuda") and not torch.cuda.is_available():
        return "cuda", PRECISIONS.get(policy.precision, torch.bfloat16)
    device = device_of(policy)
    vocabulary = policy.scratch.vocabulary
    dtype, _ = choose_precision(policy, device, lambda: configuration(policy, vocabulary), mix_of(recipe))
    return str(device), dtype


def longest_prompt(tokenizer: Any, book: CaseBook, recipe: Recipe) -> int:
    """Tokens of the longest prompt among those with the most letters."""
    asked = [ask(case, recipe.prompt) for case in book.train]
    asked.sort(key=lambda messages: sum(len(message.content) for message in messages))
    switches = recipe.prompt.template_arguments
    return max(
        (len(encode_prompt(tokenizer, messages, switches)[0]) for messages in asked[-CANDIDATES:]), default=1
    )


def _planned(recipe: Recipe, prompts: Prompts, memory: int | None = None, *, quick: bool = False) -> Plan:
    """quick: measure only where an upper bound does not fit. memory: of another device."""
    if not quick:
        pyarrow.array([0])  # imports pandas, 64 MB, as the first round's trace will
    device, dtype = chosen_device(recipe, elsewhere=memory is not None)
    config = configuration(recipe.policy, prompts.vocabulary)
    cases = None if prompts.book is None else len(prompts.book.train)
    context = context_length(config.get_text_config())
    # Longer prompts are left out of the run.
    longest = min(prompts.tokens, max(1, context - recipe.grpo.max_new_tokens))
    work = work_of(recipe, longest, cases)
    made = Plan(
        model=recipe.policy.model,
        device=device,
        precision=str(dtype).removeprefix("torch."),
        prompts={"tokens": prompts.tokens, "cases": cases, "origin": prompts.origin},
        work=work,
        counts={**counted(recipe, config, dtype, device), "process": process_memory(device)},
        measured=generous(config, work),
        context=context,
        memory=device_memory(device) if memory is None else memory,
    )
    if quick and made.fits:
        return made
    return replace(made, measured=measured(recipe.policy, config, dtype, work, device))


def _prompts(recipe: Recipe, given: int | None) -> Prompts:
    """The longest prompt: `given`, or counted in the cases, or assumed where these cannot be read."""
    scratch, grammar = recipe.policy.scratch, Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    most = scratch.vocabulary + len(grammar.tags)
    if given is not None:
        return Prompts(given, most, "as given")
    try:
        book = load_cases(recipe.cases, seed=recipe.seed)
        if recipe.policy.model == SCRATCH:
            tokenizer = build_tokenizer(corpus(recipe, book, grammar), scratch.vocabulary, grammar.tags)
        else:
            tokenizer = load_tokenizer(recipe.policy)
    except (CaseError, PolicyError) as error:
        where = f"{error.where}: " if error.where else ""
        return Prompts(ASSUMED_TOKENS, most, f"assumed: {where}{error.what}")
    origin = f"the longest of {len(book.train):,} cases"
    return Prompts(longest_prompt(tokenizer, book, recipe), len(tokenizer), origin, book)
