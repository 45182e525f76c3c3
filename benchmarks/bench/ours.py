"""Grand Rounds' side: the steps of `training.rounds` on a workload, without cases, files and progress bars."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.models import word
from bench.schedule import GivenSampler, ScheduledSampler
from bench.side import Job, serve
from bench.workloads import FULL, LORA, Workload, given_completions, lengths, prompt_tokens, rewards
from grandrounds.grpo.advantage import advantages
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import Recipe
from grandrounds.sampling.native import Sampler
from grandrounds.sampling.rollout import Group, Prompt, SamplingSettings
from grandrounds.training.rounds import update_policy
from grandrounds.training.setup import grpo_learner
from grandrounds.types import Answer, Case


def compute(job: Job) -> dict[str, Any]:
    """Seconds of each timed step: all of it, its sampling, its update.

    settings: `sampling_only`, nothing is trained; `given`, completions are imposed rather than sampled.
    """
    workload = job.workload
    recipe = recipe_of(workload, job.model)
    policy = load_policy(recipe.policy, seed=0)
    sampler = _sampler(policy, workload, given=bool(job.settings.get("given")))
    prompts = prompts_of(workload)
    only = bool(job.settings.get("sampling_only"))
    setup = SimpleNamespace(
        recipe=recipe, policy=policy, learner=None if only else grpo_learner(recipe, policy)
    )
    steps = []
    for number in range(1, job.warmup + job.steps + 1):
        started, cpu = time.perf_counter(), time.process_time()
        groups = sampler.sample(prompts, workload.group, _sampling(workload), (recipe.seed, number))
        sampled = time.perf_counter()
        row = {"sampling": sampled - started}
        if not only:
            group_advantages = advantages(rewards(workload))
            scored = time.perf_counter()
            metrics = update_policy(setup, tuple(groups), group_advantages, number)  # type: ignore[arg-type]
            row |= {"update": time.perf_counter() - scored, "ratio_error": metrics["sampling/ratio_error"]}
            row |= {"grad_norm": metrics["grad_norm"]}
        row |= {"step": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        _check(groups, workload)
        steps.append(row)
    return {"steps": steps[job.warmup :], "versions": versions()}


def _sampler(policy: Policy, workload: Workload, given: bool) -> Sampler:
    if given:
        return GivenSampler(policy, given_completions(workload))
    return ScheduledSampler(policy, {str(i): row for i, row in enumerate(lengths(workload))})


def recipe_of(workload: Workload, model: str) -> Recipe:
    """Our defaults but for what the workload says."""
    return Recipe.model_validate(
        {
            "policy": {
                "model": model,
                "adapter": LORA if workload.adapter == LORA else FULL,
                "lora_rank": workload.lora_rank,
                "lora_alpha": 2 * workload.lora_rank,
                "precision": workload.precision,
                "device": "cpu",
            },
            "grpo": {
                "group_size": workload.group,
                "cases_per_round": workload.prompts,
                "max_new_tokens": workload.max_new,
                # Of the settings that leave the result as it is; TRL's, its micro-batch, is searched per workload.
                "tokens_per_pack": _largest_group(workload),
            },
        }
    )


def _largest_group(workload: Workload) -> int:
    """Tokens of a prompt and its completions: smaller packs would compute a prompt twice, larger ones gain no time."""
    return workload.prompt_tokens + int(lengths(workload).sum(1).max())


def prompts_of(workload: Workload) -> list[Prompt]:
    """The workload's prompts; their case ids are their numbers."""
    return [
        Prompt(
            case=Case(id=str(number), question="?", gold=Answer("text", "?")),
            tokens=tokens,
            text=" ".join(word(token) for token in tokens),
        )
        for number, tokens in enumerate(prompt_tokens(workload))
    ]


def _sampling(workload: Workload) -> SamplingSettings:
    return SamplingSettings(workload.max_new, temperature=1.0)


def _check(groups: list[Group], workload: Workload) -> None:
    """What was sampled is what was asked for."""
    sampled = np.array([[len(completion.tokens) for completion in group.completions] for group in groups])
    assert (sampled == lengths(workload)).all(), "completions do not end where the schedule says"


def versions() -> dict[str, str]:
    """Of what computes."""
    import torch
    import transformers

    import grandrounds

    return {
        "grandrounds": grandrounds.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    serve(compute)
