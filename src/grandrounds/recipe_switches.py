"""Keys of the recipe that another key switches on. Set while that one is off they would be ignored, so they are
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


def _is_default(recipe: BaseModel, key: str) -> bool:
    section, _, name = key.partition(".")
    return bool(_value(recipe, key) == type(getattr(recipe, section)).model_fields[name].default)


def _value(recipe: BaseModel, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name)
