"""The losses by name, one small file for each that is not GRPO's clipped objective; or the user's own.

Formulas side by side: docs/algorithms.md.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from grandrounds.algorithm import grpo
from grandrounds.algorithm.loss import Loss, LossSettings
from grandrounds.algorithm.losses.cispo import CISPO
from grandrounds.algorithm.losses.luspo import LUSPO
from grandrounds.algorithm.losses.sapo import SAPO
from grandrounds.algorithm.losses.vespo import VESPO
from grandrounds.errors import RecipeError
from grandrounds.loading import did_you_mean, load_object
from grandrounds.recipe import GrpoRecipe

# The values of `grpo.loss`.
LOSSES: dict[str, Loss] = {**grpo.LOSSES, "cispo": CISPO, "luspo": LUSPO, "sapo": SAPO, "vespo": VESPO}


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


def loss_settings(recipe: GrpoRecipe, loss: Loss) -> LossSettings:
    """The recipe's settings for this loss. RecipeError where they make no sense together."""
    if recipe.ratio not in loss.ratios:
        raise RecipeError(
            f"{recipe.loss} takes no ratios of {'whole completions' if recipe.ratio == 'sequence' else 'tokens'}"
            f"{': ' + loss.reason if loss.reason else ''}",
            where="grpo.ratio",
            hint=f"Set grpo.ratio={loss.ratios[0]}, or another grpo.loss.",
        )
    if recipe.delta is not None and not loss.clips:
        raise RecipeError(
            f"{recipe.loss} does not clip, so there is nothing for delta to bound",
            where="grpo.delta",
            hint="Leave it out, or choose grpo.loss=grpo, bnpo, dr_grpo, dapo or luspo.",
        )
    if recipe.correction.startswith("sequence") and loss is VESPO:
        raise RecipeError(
            "vespo multiplies the corrections of a completion's tokens by itself",
            where="grpo.correction",
            hint="Set grpo.correction=token_truncate or token_mask.",
        )
    unknown = sorted(set(recipe.loss_options) - set(loss.options))
    if unknown:
        raise RecipeError(
            f"{recipe.loss} has no option `{unknown[0]}`",
            where=f"grpo.loss_options.{unknown[0]}",
            hint=f"It has {', '.join(loss.options)}." if loss.options else "It has none; leave them out.",
        )
    shared = {one.name: getattr(recipe, one.name) for one in fields(LossSettings) if one.name != "options"}
    return LossSettings(**shared, options={**loss.options, **recipe.loss_options})
