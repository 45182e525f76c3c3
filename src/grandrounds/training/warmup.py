"""SFT warm-up: the policy learns the form of a response from demonstrations before GRPO improves its content.

`grandrounds sft` consists of it alone, and trains the "regular" model: with `sft.reasoning` false the completion is
the gold answer alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from grandrounds.algorithm import ranks
from grandrounds.algorithm.cursor import Weights, take
from grandrounds.algorithm.packing import likelihood_packs
from grandrounds.algorithm.schedule import sft_share
from grandrounds.errors import CaseError, RunError
from grandrounds.sampling.prompts import make_prompt
from grandrounds.training.fitting import demonstration_tokens, too_long_demonstrations
from grandrounds.training.interrupt import Interrupt
from grandrounds.training.progress import MetricsRow
from grandrounds.training.saving import save_warmup
from grandrounds.training.setup import Setup
from grandrounds.types import Case

# Seconds between checkpoints within the warm-up. Their times do not change the result.
SAVE_SECONDS = 60.0


def teachable(setup: Setup) -> list[Case]:
    """The training cases that SFT can learn from, as `sft.too_long` says. CaseError where there are none."""
    cases = list(setup.book.train)
    if setup.recipe.sft.reasoning:
        cases = [case for case in cases if case.demonstration is not None]
    else:
        cases = [case for case in cases if case.gold.kind != "none"]
    if not cases:
        raise CaseError(
            "no training case has a demonstration to learn reasoning from",
            where=setup.recipe.cases.source,
            hint="Add a `reasoning` column, set sft.steps=0 for a model that already reasons, or sft.reasoning=false.",
        )
    setup.progress.doing("reading the demonstrations")
    lengths = [(case, _example(setup, case)) for case in cases]
    too_long = [case for case, example in lengths if example is None]
    if too_long:
        setup.progress.note(too_long_demonstrations(too_long, len(cases), setup.recipe))
    return [case for case, example in lengths if example is not None]


def run_warmup(
    setup: Setup,
    cases: list[Case],
    step: int,
    interrupt: Interrupt,
    each: Callable[[int, MetricsRow], None],
) -> int:
    """SFT steps from the one after `step` to the last. Returns the number of the step where it stopped.

    each: is told of every step and its metrics.
    """
    sft, saved = setup.recipe.sft, time.monotonic()
    weights = setup.weights_of(cases)
    while step < sft.steps and not interrupt.requested:
        step += 1
        metrics = sft_step(setup, cases, weights, step, sft.learning_rate * sft_share(step, sft.steps))
        setup.course.step(step)
        setup.progress.warmup(step, sft.steps, metrics)
        each(step, metrics)
        if not math.isfinite(metrics["loss"]):
            raise RunError(
                f"the loss is {metrics['loss']}", where=f"SFT step {step}", hint="Lower sft.learning_rate."
            )
        if interrupt.requested or time.monotonic() - saved > SAVE_SECONDS:
            save_warmup(setup, step)
            saved = time.monotonic()
    return step


def sft_step(
    setup: Setup, cases: list[Case], weights: Weights | None, step: int, learning_rate: float
) -> dict[str, float]:
    """Learn from the cases whose turn it is in step `step`, counted from 1. Returns the step's metrics."""
    count = min(setup.recipe.sft.batch_cases, len(cases))
    chosen = [cases[i] for i in take(len(cases), (step - 1) * count, count, setup.recipe.seed, weights)]
    examples = [example for case in chosen if (example := _example(setup, case)) is not None]
    tokens = sum(len(completion) for _, completion in examples)
    packs = likelihood_packs(
        [(prompt, completion, np.full(len(completion), 1 / tokens)) for prompt, completion in examples],
        tokens_per_pack=setup.recipe.grpo.tokens_per_pack,
        device=setup.policy.device,
    )
    for pack in ranks.share(packs):
        setup.learner.accumulate(pack)
    return setup.learner.step(learning_rate)


def _example(setup: Setup, case: Case) -> tuple[np.ndarray, np.ndarray] | None:
    """Prompt and target tokens of one demonstration; None where it is too long."""
    recipe = setup.recipe
    prompt = make_prompt(setup.policy, case, recipe.prompt, recipe.grpo.max_new_tokens)
    target = demonstration_tokens(setup.policy, setup.grammar, recipe, case, prompt.prefilled)
    return None if target is None else (prompt.tokens, target)
