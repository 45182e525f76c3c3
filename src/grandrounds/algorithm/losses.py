"""Finds the loss that a recipe names: an entry of the table, or the user's own in a file or module."""

from __future__ import annotations

from pathlib import Path

from grandrounds.algorithm.grpo import LOSSES
from grandrounds.algorithm.loss import Loss
from grandrounds.errors import RecipeError
from grandrounds.loading import did_you_mean, load_object


def find_loss(name: str, base: Path) -> Loss:
    """The loss of `grpo.loss`: an entry of LOSSES, or "file.py:NAME" (relative to `base`) or "package.module:NAME".

    RecipeError where there is none.
    """
    if name in LOSSES:
        return LOSSES[name]
    if ":" not in name:
        raise RecipeError(
            f"there is no loss `{name}`",
            where="grpo.loss",
            hint=did_you_mean(name, LOSSES)
            or f"There are {', '.join(LOSSES)}; your own: package.module:NAME or file.py:NAME.",
        )
    loss, source = load_object(name, base, RecipeError)
    if not isinstance(loss, Loss):
        raise RecipeError(
            f"this is no Loss but {type(loss).__name__}",
            where=f"grpo.loss, {source}",
            hint="Write NAME = Loss(objective, weights), as docs/extending.md shows.",
        )
    return loss
