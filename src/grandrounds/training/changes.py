"""What may be changed of a run that has begun: `grandrounds resume RUN --set KEY=VALUE`.

A change is allowed where it contradicts nothing that was done. Each one is recorded in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from grandrounds.errors import RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.folder import RunFolder

# Keys that may change, `*` for a component's name -> what to warn of.
CHANGEABLE = {
    "rounds": "",
    "checkpoint.*": "",
    "evaluation.*": "",
    "guard.*": "",
    "rollouts.*": "",
    "cases.too_long": "",
    "sft.too_long": "",
    "grpo.tokens_per_pack": "",
    "grpo.learning_rate": "The result is no longer that of one learning rate.",
    "rewards.*.timeout_seconds": "",
    "rewards.*.memory_gb": "",
    "rewards.*.retries": "",
}
# Further ones of a judge: how much it is asked, not what.
OF_JUDGES = ("budget", "concurrency")
# Why other keys may not change, by the beginning of the key.
REASONS = {
    "name": "the run's folder has this name",
    "seed": "everything random in the rounds done follows from it",
    "cases": "the split into training and test cases would be another",
    "prompt": "the policy has learned to answer prompts of this form",
    "policy": "the weights and the optimizer's state belong to this model",
    "sft": "the rounds build on this warm-up",
    "rewards": "rewards before and after would not compare",
    "grpo": "the rounds done were sampled and learned with it",
}


def change_recipe(folder: RunFolder, overrides: Sequence[str], rounds_done: int) -> list[str]:
    """Apply "key=value" overrides to a run's recipe, and record them; returns a line for each, with its warning.

    Raises RunError for a key that may not change and for fewer rounds than are done, RecipeError as `with_overrides`.
    """
    before = folder.recipe()
    after = with_overrides(before, overrides)
    changes = dict(recipe_differences(before.model_dump(mode="json"), after.model_dump(mode="json")))
    for key, (old, new) in changes.items():
        if key not in _of_judges(before):
            _require_changeable(key, old, new)
    if after.rounds < rounds_done:
        raise RunError(
            f"{rounds_done} rounds are done already",
            where="--set rounds",
            hint=f"Give {rounds_done} or more.",
        )
    if not changes:
        return []
    folder.record_changes(rounds_done, changes)
    folder.write_recipe(after)
    return [_told(key, old, new, before) for key, (old, new) in changes.items()]


def recipe_differences(before: Any, after: Any, above: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """(key path, (value before, value after)) wherever two recipes differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from recipe_differences(before.get(key), after.get(key), f"{above}.{key}" if above else key)
    elif before != after:
        yield above, (before, after)


def _of_judges(recipe: Recipe) -> set[str]:
    judges = [name for name, reward in recipe.rewards.items() if (reward.use or name) == "judge"]
    return {f"rewards.{name}.options.{option}" for name in judges for option in OF_JUDGES}


def _require_changeable(key: str, old: Any, new: Any) -> None:
    if any(fnmatch(key, pattern) for pattern in CHANGEABLE):
        return
    reason = REASONS.get(key.partition(".")[0], "the rounds done depend on it")
    raise RunError(
        f"`{key}` is {old!r} and cannot become {new!r} in a run that has begun: {reason}",
        where=f"--set {key}",
        hint=f"A run that has begun can change {', '.join(CHANGEABLE)}. Begin a new run for the rest.",
    )


def _told(key: str, old: Any, new: Any, before: Recipe) -> str:
    warning = next((text for pattern, text in CHANGEABLE.items() if fnmatch(key, pattern)), "")
    if key == "rounds" and before.grpo.schedule != "constant":
        warning = f"The learning rate's {before.grpo.schedule} schedule now ends at the new number of rounds."
    return " ".join(filter(None, (f"Changed: {key} from {old} to {new}.", warning)))
