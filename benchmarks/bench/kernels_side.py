"""Rounds with all kernels, without each, and with none, in turn on the same weights in one process.

python -m bench.kernels_side RESULT < JOB        as a side of its own, see `bench.side`
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.ours import grpo_of, recipe_of, sampler_of, step, versions
from bench.process import forget_peak, peak_bytes
from bench.side import Job, serve
from grandrounds.policy.load import load_policy
from grandrounds.recipe import GrpoRecipe, KernelsRecipe


def compute(job: Job) -> dict[str, Any]:
    """Timed rounds by variant, with the peak of memory of each; settings: switches by variant."""
    recipe = recipe_of(job.workload, job.model)
    # As large packs as by default: kernels save memory by the token.
    grpo = recipe.grpo.model_copy(update={"tokens_per_pack": GrpoRecipe().tokens_per_pack})
    recipe = recipe.model_copy(update={"grpo": grpo})
    policy = load_policy(recipe.policy, seed=0)
    learner = grpo_of(recipe, policy, sampler_of(policy, job.workload)).learner
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in job.settings}
    for number in range(1, job.warmup + job.steps + 1):
        for name, switches in job.settings.items():
            # Made anew, since it chooses the modules' forward functions.
            learner.policy = replace(policy, kernels=KernelsRecipe(**switches))
            sampler = sampler_of(learner.policy, job.workload)
            loop = replace(grpo_of(recipe, learner.policy, sampler), learner=learner)
            forget_peak()
            steps[name].append({**step(job.workload, sampler, loop, number), "peak": peak_bytes()})
    return {"steps": {name: rows[job.warmup :] for name, rows in steps.items()}, "versions": versions()}


if __name__ == "__main__":
    serve(compute)
