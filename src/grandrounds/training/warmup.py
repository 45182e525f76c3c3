"""SFT warm-up: the policy learns the form of a response from demonstrations before GRPO improves its content.

`grandrounds sft` consists of it alone, and trains the "regular" model: with `sft.reasoning` false the completion is
the gold answer alone.
"""

from __future__ import annotations

import math
import time

import numpy as np

from grandrounds.algorithm import ranks
from grandrounds.algorithm.cursor import take
from grandrounds.algorithm.packing import likelihood_packs
from grandrounds.algorithm.schedule import sft_share
from grandrounds.cases.ask import gold_text
from grandrounds.errors import CaseError, RunError
from grandrounds.sampling.prompts import make_prompt
from grandrounds.training.interrupt import Interrupt
from grandrounds.training.saving import save_warmup
from grandrounds.training.setup import Setup
from grandrounds.types import Case

# Seconds between checkpoints within the warm-up. Their times do not change the result.
SAVE_SECONDS = 60.0
# Number of demonstrations, the longest ones, whose length is checked before the first step.
LONGEST = 32


def teachable(setup: Setup) -> list[Case]:
    """The training cases that SFT can use. CaseError where there are none, or where a demonstration is too long."""
    cases = list(setup.book.train)
    if setup.recipe.sft.reasoning:
        cases = [case for case in cases if case.demonstration is not None]
    if not cases:
        raise CaseError(
            "no training case has a demonstration to learn reasoning from",
            where=setup.recipe.cases.source,
            hint="Add a `reasoning` column, set sft.steps=0 for a model that already reasons, or sft.reasoning=false.",
        )
    # The texts with the most letters have nearly the most tokens. It is better to refuse now than in an hour.
    for case in sorted(cases, key=lambda case: len(_target_text(setup, case)))[-LONGEST:]:
        _example(setup, case)
    return cases


def run_warmup(setup: Setup, cases: list[Case], step: int, interrupt: Interrupt) -> int:
    """SFT steps from the one after `step` to the last. Returns the number of the step where it stopped."""
    sft, saved = setup.recipe.sft, time.monotonic()
    while step < sft.steps and not interrupt.requested:
        step += 1
        count = min(sft.batch_cases, len(cases))
        chosen = [cases[i] for i in take(len(cases), (step - 1) * count, count, setup.recipe.seed)]
        metrics = _learn(setup, chosen, sft.learning_rate * sft_share(step, sft.steps))
        setup.progress.warmup(step, sft.steps, metrics)
        if not math.isfinite(metrics["loss"]):
            raise RunError(
                f"the loss is {metrics['loss']}", where=f"SFT step {step}", hint="Lower sft.learning_rate."
            )
        if interrupt.requested or time.monotonic() - saved > SAVE_SECONDS:
            save_warmup(setup, step)
            saved = time.monotonic()
    return step


def _learn(setup: Setup, cases: list[Case], learning_rate: float) -> dict[str, float]:
    examples = [_example(setup, case) for case in cases]
    tokens = sum(len(completion) for _, completion in examples)
    packs = likelihood_packs(
        [(prompt, completion, np.full(len(completion), 1 / tokens)) for prompt, completion in examples],
        tokens_per_pack=setup.recipe.grpo.tokens_per_pack,
        device=setup.policy.device,
    )
    for pack in ranks.share(packs):
        setup.learner.accumulate(pack)
    return setup.learner.step(learning_rate)


def _example(setup: Setup, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Prompt tokens and completion tokens of one demonstration."""
    recipe = setup.recipe
    prompt = make_prompt(setup.policy, case, recipe.prompt, recipe.grpo.max_new_tokens)
    target = setup.policy.encode_response(_target_text(setup, case).removeprefix(prompt.prefilled))
    limit = recipe.grpo.max_new_tokens
    if len(target) > limit:
        raise CaseError(
            f"the demonstration has {len(target)} tokens, more than grpo.max_new_tokens = {limit}",
            where=f"case {case.id}",
            hint="Raise grpo.max_new_tokens or shorten the demonstration.",
        )
    return prompt.tokens, target


def _target_text(setup: Setup, case: Case) -> str:
    if setup.recipe.sft.reasoning and case.demonstration is not None:
        return setup.grammar.render(case.demonstration.reasoning, case.demonstration.answer)
    return setup.grammar.render(None, gold_text(case))
