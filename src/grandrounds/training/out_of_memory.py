"""The one place that turns running out of memory into a message: the phase, the memory's parts, what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import CodeType

import torch

from grandrounds.algorithm.grpo import collect, update_policy
from grandrounds.errors import RunError, command
from grandrounds.machine import size
from grandrounds.planning.planner import counted_parts
from grandrounds.policy.load import load_policy
from grandrounds.recipe import Recipe
from grandrounds.training.warmup import run_warmup

# Function -> what the run does in it, the recipe key that determines its memory, and other settings to change.
_PHASES: dict[CodeType, tuple[str, str, str]] = {
    load_policy.__code__: (
        "the model was loaded",
        "policy.model",
        "Choose a smaller model, policy.precision: bfloat16, or with LoRA policy.quantize: 4bit",
    ),
    run_warmup.__code__: (
        "the warm-up took a step",
        "sft.batch_cases",
        "Lower it, or grpo.tokens_per_pack, which does not change the result",
    ),
    collect.__code__: (
        "completions were sampled",
        "grpo.cases_per_round",
        "Lower it, grpo.group_size or grpo.max_new_tokens",
    ),
    update_policy.__code__: (
        "the policy was updated",
        "grpo.tokens_per_pack",
        "Lower it, which does not change the result; if most memory is in the parts above, policy.adapter: lora or "
        "policy.precision: bfloat16",
    ),
}
_ELSEWHERE = ("the run went on", "policy.model", "Close other programs, or choose a smaller model")


@contextmanager
def memory_boundary(recipe: Recipe, folder: Path) -> Iterator[None]:
    """RunError where memory runs out within the block, on any device. Saved checkpoints stay as they are."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _ran_out(error):
            raise
        codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
        doing, key, hint = next((_PHASES[code] for code in codes if code in _PHASES), _ELSEWHERE)
        parts = ", ".join(f"{name} {size(count)}" for name, count in counted_parts(recipe).items() if count)
        raise RunError(
            f"memory ran out while {doing}" + (f"; planned memory: {parts}" if parts else ""),
            where=key,
            hint=f"{hint}. Change {folder / 'recipe.yaml'} and go on with: {command('resume', folder)}",
        ) from error


def _ran_out(error: Exception) -> bool:
    """Whether Python, or torch on a GPU or a CPU, ran out of memory. torch's CPU error has no type of its own."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error)
