"""TRL's batch arithmetic in rounds: how many prompts are sampled at once, and how many steps learn from them.

TRL counts completions: a generation batch of `generation_batch_size` is sampled, then `gradient_accumulation_steps`
micro-batches of `per_device_train_batch_size` make an optimizer step, `num_iterations` times over. Here a round samples
whole groups, and each of its passes takes one or several optimizer steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import RecipeError


@dataclass(frozen=True)
class Batches:
    """What a round holds. per_generation: prompts that TRL samples at once; a round samples them or a multiple.

    micro_batches: TRL's forward passes for one such batch, all iterations counted. accumulation: those of a step.
    """

    cases: int
    minibatches: int
    iterations: int
    per_generation: int
    micro_batches: int
    accumulation: int

    @property
    def steps_per_round(self) -> int:
        """Optimizer steps of one round."""
        return self.minibatches * self.iterations

    def steps_per_epoch(self, prompts: int) -> int:
        """Optimizer steps in which TRL sees so many prompts once; it leaves out the rest of an incomplete batch."""
        micro_batches = prompts // self.per_generation * self.micro_batches
        return max(math.ceil(micro_batches / self.accumulation), 1)

    def rounds(self, steps: float) -> int:
        """Rounds that hold so many optimizer steps, at least one."""
        return max(1, math.ceil(steps / self.steps_per_round))


def batches_of(values: Mapping[str, Any]) -> Batches:
    """The batches of a GRPOConfig's values. RecipeError where they do not divide, as TRL has it too."""
    micro, accumulation = values["per_device_train_batch_size"], values["gradient_accumulation_steps"]
    group, iterations = values["num_generations"], values["num_iterations"]
    generated, per_generation = _generation(values, micro, accumulation)
    if group < 2:
        raise _wrong(
            "num_generations", f"a group of {group} has nothing to compare with", "Set it to 2 or more."
        )
    if generated % group:
        raise _wrong(
            "num_generations",
            f"a generation batch of {generated} completions is no number of whole groups of {group}",
            "Choose per_device_train_batch_size × steps_per_generation (gradient_accumulation_steps by default) as a "
            "multiple of num_generations.",
        )
    if per_generation % accumulation == 0:
        cases, minibatches = generated // group, per_generation // accumulation
    elif accumulation % per_generation == 0 and iterations == 1:
        # Several generation batches are sampled from the same weights for one step: one larger round.
        cases, minibatches = generated // group * (accumulation // per_generation), 1
    else:
        raise _wrong(
            "steps_per_generation",
            f"a step of {accumulation} micro-batches would mix completions of {per_generation} × {iterations} with "
            "those of another policy",
            "Choose steps_per_generation as a multiple of gradient_accumulation_steps.",
        )
    if minibatches > cases:
        raise _wrong(
            "steps_per_generation",
            f"{minibatches} steps of a pass have only {cases} groups to learn from, and groups are not divided here",
            "Sample more prompts at once, or lower steps_per_generation.",
        )
    return Batches(
        cases, minibatches, iterations, generated // group, per_generation * iterations, accumulation
    )


def _generation(values: Mapping[str, Any], micro: int, accumulation: int) -> tuple[int, int]:
    """(completions sampled at once, micro-batches that they are)."""
    generated, steps = values["generation_batch_size"], values["steps_per_generation"]
    if generated is not None and steps is not None:
        raise _wrong("generation_batch_size", "steps_per_generation says the same", "Leave one of them out.")
    if generated is None:
        steps = accumulation if steps is None else steps
        return micro * steps, steps
    if generated % micro:
        raise _wrong(
            "generation_batch_size",
            f"{generated} completions are no multiple of per_device_train_batch_size = {micro}",
            "Choose a multiple.",
        )
    return generated, generated // micro


def _wrong(name: str, what: str, hint: str) -> RecipeError:
    return RecipeError(what, where=f"GRPOConfig({name}=…)", hint=hint)
