"""Keys of the recipe that make no sense beside another.

Some do nothing unless another key switches them on. Set while that one is off they would be ignored, so they are
refused.

A switch is off at its default, and so are the keys that belong to it. Keys that only size a part that is switched off
(`sft.learning_rate` with `sft.steps: 0`) are left alone, so that one override turns the part off: docs/recipes.md
lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

# Switch -> the keys that do nothing while it is off.
SWITCHES = {
    "grpo.beta": ("grpo.kl", "grpo.kl_correction"),
    "grpo.entropy_target": ("grpo.entropy_bonus_step", "grpo.entropy_bonus_max"),
    "grpo.correction": ("grpo.correction_high", "grpo.correction_low"),
    "grpo.schedule": ("grpo.learning_rate_end",),
    "evaluation.samples": (
        "evaluation.temperature",
        "evaluation.top_p",
        "evaluation.top_k",
        "evaluation.min_p",
    ),
    "evaluation.every": ("evaluation.best", "evaluation.patience"),
}


def ignored(recipe: BaseModel) -> Iterator[tuple[str, Any, str]]:
    """(key, its value, its switch) of every key that is set while its switch is off."""
    for switch, keys in SWITCHES.items():
        if _is_default(recipe, switch):
            yield from ((key, _value(recipe, key), switch) for key in keys if not _is_default(recipe, key))


def out_of_order(grpo: Any) -> str:
    """What is wrong between the bounds and counts of the recipe's section `grpo`; "" for nothing."""
    if grpo.delta is not None and grpo.delta <= 1 + grpo.clip_high:
        return f"grpo.delta must be above 1 + grpo.clip_high = {1 + grpo.clip_high:g}"
    if grpo.correction_low is not None and grpo.correction_low >= grpo.correction_high:
        return f"grpo.correction_low must be below grpo.correction_high = {grpo.correction_high:g}"
    if grpo.entropy_target is not None and grpo.entropy_bonus > grpo.entropy_bonus_max:
        return (
            f"grpo.entropy_bonus begins at {grpo.entropy_bonus:g}, above grpo.entropy_bonus_max = "
            f"{grpo.entropy_bonus_max:g}"
        )
    if grpo.minibatches > grpo.cases_per_round:
        return (
            f"grpo.minibatches: {grpo.minibatches} steps have only grpo.cases_per_round = {grpo.cases_per_round} "
            "groups to learn from, and groups are not divided"
        )
    return ""


def _is_default(recipe: BaseModel, key: str) -> bool:
    section, _, name = key.partition(".")
    return bool(_value(recipe, key) == type(getattr(recipe, section)).model_fields[name].default)


def _value(recipe: BaseModel, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name)
