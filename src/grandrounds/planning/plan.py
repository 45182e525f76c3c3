"""The plan of a run: what it needs, whether it fits, what would, and how long a round takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from grandrounds.planning.device import device_memory, parse_memory, process_memory
from grandrounds.planning.fitting import Room, largest_group_size, longest_completion, smallest_change
from grandrounds.planning.need import Need, Shape, Work, need, work_of
from grandrounds.planning.probe import RoundTime, round_time
from grandrounds.planning.prompts import Prompts, measured_prompts
from grandrounds.planning.shape import model_shape
from grandrounds.policy.load import SCRATCH, configuration, device_of
from grandrounds.policy.precision import PRECISIONS, choose_precision, mix_of
from grandrounds.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What a run of a recipe needs on a device.

    device: "cpu", "cuda", …; precision: of the weights. memory: bytes that the device has for the run; None where
    the system does not tell. time: of a round; None where it was not measured, and untimed says why.
    """

    model: str
    device: str
    precision: str
    prompts: Prompts
    work: Work
    shape: Shape
    need: Need
    memory: int | None
    time: RoundTime | None = None
    untimed: str = ""

    @property
    def fits(self) -> bool | None:
        """None where the device's memory is not known."""
        return None if self.memory is None else self.need.peak <= self.memory

    @property
    def room(self) -> Room | None:
        """The device, to try other work on."""
        if self.memory is None:
            return None
        return Room(self.shape, self.memory, self.need.process, self.device == "cpu")

    @property
    def largest_group_size(self) -> int | None:
        """The largest `grpo.group_size` that fits, all else as it is; None where none does or nobody knows."""
        return largest_group_size(self.room, self.work) if self.room else None

    @property
    def longest_completion(self) -> int | None:
        """The largest `grpo.max_new_tokens` that fits, all else as it is; None as above."""
        return longest_completion(self.room, self.work) if self.room else None

    @property
    def smallest_change(self) -> dict[str, int]:
        """Where it does not fit: recipe keys to lower, and to what; empty where nothing so simple helps."""
        return smallest_change(self.room, self.work) if self.room and not self.fits else {}

    def to_json(self) -> dict[str, Any]:
        """JSON-able values; memory in bytes, time in seconds. docs/memory.md names each."""
        return {
            "model": self.model,
            "device": self.device,
            "precision": self.precision,
            "memory": self.memory,
            "fits": self.fits,
            "prompts": {
                "tokens": self.prompts.tokens,
                "cases": self.prompts.cases,
                "origin": self.prompts.origin,
            },
            "work": asdict(self.work),
            "parts": asdict(self.need),
            "resident": self.need.resident,
            "sampling": self.need.sampling,
            "update": self.need.update,
            "peak": self.need.peak,
            "least": self.need.least,
            "largest_group_size": self.largest_group_size,
            "longest_completion": self.longest_completion,
            "smallest_change": self.smallest_change,
            "seconds": {**asdict(self.time), "round": self.time.round} if self.time else None,
            "untimed": self.untimed,
        }


def plan(
    recipe: Recipe,
    *,
    memory: int | str | None = None,
    prompt_tokens: int | None = None,
    probe: bool = True,
) -> Plan:
    """Plan a run without loading the model, except for the probe of a round's time.

    memory: of another device, "16GB" or in bytes; default: this one's. prompt_tokens: of the longest prompt; default:
    counted in the recipe's cases, or assumed where these cannot be read. probe: decode a few steps and update once,
    on the real model, where it fits here.
    Raises the `GrandRoundsError` family: a model that is missing, or whose memory cannot be foretold.
    """
    elsewhere = memory is not None
    there = parse_memory(memory) if isinstance(memory, str) else memory
    device, dtype = chosen_device(recipe, elsewhere=elsewhere)
    prompts = measured_prompts(recipe, prompt_tokens)
    made = planned(recipe, prompts, device, dtype, there if elsewhere else device_memory(device))
    if not probe:
        return replace(made, untimed="not asked for")
    if elsewhere:
        return replace(made, untimed="it is for another device")
    if made.fits is False:
        return replace(made, untimed="it does not fit here")
    if recipe.policy.model == SCRATCH and prompts.book is None:
        return replace(made, untimed="its tokenizer is made from the cases, which were not read")
    return replace(made, time=round_time(recipe, made.work, prompts.book))


def chosen_device(recipe: Recipe, *, elsewhere: bool = False) -> tuple[str, torch.dtype]:
    """The device's name and the weights' type. A GPU that the plan is for need not be here.

    Raises RecipeError for a device that is not here, or that the update's activations cannot leave.
    """
    policy = recipe.policy
    if elsewhere and policy.device.startswith("cuda") and not torch.cuda.is_available():
        return "cuda", PRECISIONS.get(policy.precision, torch.bfloat16)
    device = device_of(policy)
    dtype, _ = choose_precision(
        policy, device, lambda: configuration(policy, policy.scratch.vocabulary), mix_of(recipe)
    )
    return str(device), dtype


def planned(recipe: Recipe, prompts: Prompts, device: str, dtype: torch.dtype, memory: int | None) -> Plan:
    work = work_of(recipe, prompts.tokens, prompts.cases)
    shape = model_shape(recipe.policy, dtype, prompts.vocabulary, work)
    process = process_memory(device)
    return Plan(
        model=recipe.policy.model,
        device=device,
        precision=str(dtype).removeprefix("torch."),
        prompts=prompts,
        work=work,
        shape=shape,
        need=need(shape, work, process=process, on_cpu=device == "cpu"),
        memory=memory,
    )
