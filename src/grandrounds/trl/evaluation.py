"""What TRL's evaluate measures: the rewards of completions of other prompts, sampled as in training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.policy.model import Policy
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import build_rewards, read_group
from grandrounds.rewards.reward_set import Scoring
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.prompts import make_prompts
from grandrounds.sampling.sampler import SamplingSettings, in_order
from grandrounds.trl.logs import sampled
from grandrounds.types import Case


def evaluate(
    policy: Policy,
    cases: Sequence[Case],
    recipe: Recipe,
    functions: Mapping[str, Any],
    *,
    completions: int,
    step: int,
) -> dict[str, float]:
    """Numbers of so many completions of each case, under the names of training."""
    began, grpo = time.perf_counter(), recipe.grpo
    specs = {
        name: spec.model_copy(update={"use": functions[name]} if isinstance(functions[name], str) else {})
        for name, spec in recipe.rewards.items()
    }
    rewards = build_rewards(
        specs, base=Path.cwd(), functions={name: one for name, one in functions.items() if callable(one)}
    )
    prompts = make_prompts(policy, cases, recipe.prompt, grpo.max_new_tokens)
    settings = SamplingSettings(grpo.max_new_tokens, temperature=grpo.temperature)
    sampler = NativeSampler(policy)
    sampler.publish(policy.model, step)
    scoring, grammar = Scoring(rewards), Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    for group in sampler.sample(prompts, completions, settings, (recipe.seed, "evaluation", step)):
        scoring.add(read_group(group, grammar, grpo.max_new_tokens))
    groups = in_order(prompts, scoring.results())
    seconds = time.perf_counter() - began
    return {
        **sampled(groups, policy.eos_ids),
        "runtime": seconds,
        "samples_per_second": len(cases) / seconds,
    }
