"""Grand Rounds' side: the steps of `algorithm.grpo` on a workload, without cases, files and progress bars."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from bench.models import word
from bench.process import now
from bench.schedule import GivenSampler, ScheduledSampler
from bench.side import Job, serve
from bench.workloads import FULL, LORA, Workload, given_completions, lengths, prompt_tokens, rewards
from grandrounds.algorithm.grpo import LOSSES, Grpo, compare, update_policy
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Response
from grandrounds.rewards import RewardSet
from grandrounds.sampling.sampler import Sampler, SamplingSettings, in_order
from grandrounds.training.setup import grpo_learner
from grandrounds.types import Answer, Case, Group, Prompt, Sample, ScoredGroup, Verdict


def compute(job: Job) -> dict[str, Any]:
    """Seconds of each timed step: all of it, its sampling, its update.

    settings: `sampling_only`, nothing is trained; `given`, completions are imposed rather than sampled;
    `cap_gb`, what of a GPU's memory it may take.
    """
    workload = job.workload
    if "cap_gb" in job.settings:
        share = job.settings["cap_gb"] * 2**30 / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share)
    recipe = recipe_of(workload, job.model, job.device)
    policy = load_policy(recipe.policy, seed=0)
    sampler = sampler_of(policy, workload, given=bool(job.settings.get("given")))
    only = bool(job.settings.get("sampling_only"))
    grpo = None if only else grpo_of(recipe, policy, sampler)
    numbers = range(1, job.warmup + job.steps + 1)
    steps = [step(workload, sampler, grpo, number, job.device) for number in numbers]
    return {"steps": steps[job.warmup :], "versions": versions()}


def step(
    workload: Workload, sampler: Sampler, grpo: Grpo | None, number: int, device: str = "cpu"
) -> dict[str, float]:
    """One round: seconds by the clock, and of the processor's time (`..._cpu`)."""
    prompts = prompts_of(workload)
    started, cpu = now(device), time.process_time()
    groups = in_order(prompts, sampler.sample(prompts, workload.group, _sampling(workload), (0, number)))
    row = {"sampling": now(device) - started, "sampling_cpu": time.process_time() - cpu}
    if grpo is not None:
        scored_groups = compare(_scored(groups, rewards(workload)), grpo.recipe, grpo.rewards)
        scored, update_cpu = now(device), time.process_time()
        metrics = update_policy(grpo, scored_groups, number)
        row |= {"update": now(device) - scored, "ratio_error": metrics["sampling/ratio_error"]}
        row |= {"grad_norm": metrics["grad_norm"], "update_cpu": time.process_time() - update_cpu}
    row |= {"step": now(device) - started, "cpu": time.process_time() - cpu}
    _check(groups, workload)
    return row


def grpo_of(recipe: Recipe, policy: Policy, sampler: Sampler) -> Grpo:
    """The loop's parts, but for cases and rewards, which a workload has not."""
    loss = LOSSES[recipe.grpo.loss]
    return Grpo(
        recipe=recipe.grpo,
        rounds=recipe.rounds,
        seed=recipe.seed,
        cases=[],
        ask=lambda cases: [],
        sampler=sampler,
        read=lambda group: (),
        rewards=RewardSet({}),
        learner=grpo_learner(recipe, policy, loss),
        loss=loss,
    )


def _scored(groups: list[Group], rewards: np.ndarray) -> list[ScoredGroup]:
    """With the workload's rewards [N, G]; nothing was read or judged."""
    nothing = Response(None, None, (), "")
    return [
        ScoredGroup(
            tuple(
                Sample(group.prompt, one, nothing, Verdict(False, 0.0, ""), 0) for one in group.completions
            ),
            scores={},
            rewards=row,
            notes=(),
        )
        for group, row in zip(groups, rewards, strict=True)
    ]


def sampler_of(policy: Policy, workload: Workload, given: bool = False) -> Sampler:
    if given:
        return GivenSampler(policy, given_completions(workload))
    return ScheduledSampler(policy, {str(i): row for i, row in enumerate(lengths(workload))})


def recipe_of(workload: Workload, model: str, device: str = "cpu") -> Recipe:
    """Our defaults but for what the workload says."""
    return Recipe.model_validate(
        {
            "policy": {
                "model": model,
                "adapter": LORA if workload.adapter == LORA else FULL,
                "lora_rank": workload.lora_rank,
                "lora_alpha": 2 * workload.lora_rank,
                "precision": workload.precision,
                "device": device,
                "quantize": workload.quantize,
                "recompute": workload.recompute,
            },
            "grpo": {
                "group_size": workload.group,
                "cases_per_round": workload.prompts,
                "max_new_tokens": workload.max_new,
                # Of the settings that leave the result as it is; TRL's, its micro-batch, is searched per workload.
                **({"tokens_per_pack": _largest_group(workload)} if device == "cpu" else {}),
            },
        }
    )


def _largest_group(workload: Workload) -> int:
    """Tokens of a prompt and its completions: smaller packs would compute a prompt twice, larger ones gain no time
    on a CPU."""
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
    import transformers

    import grandrounds

    return {
        "grandrounds": grandrounds.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    serve(compute)
