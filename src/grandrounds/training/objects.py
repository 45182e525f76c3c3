"""Objects in memory that a run gets in place of names in its recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.policy.model import Policy
from grandrounds.recipe import MEMORY, Recipe, RewardRecipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import Sampler


@dataclass(frozen=True)
class Objects:
    """The arguments of `train` that replace names in the recipe. None where the recipe's name applies."""

    cases: Any = None
    rewards: Any = None
    model: tuple[Any, Any] | None = None
    sampler: Callable[[Policy], Sampler] = NativeSampler

    def named_in(self, recipe: Recipe) -> Recipe:
        """The recipe as saved in the run's folder: each object becomes `memory`, so that `resume` asks for it again."""
        changes: dict[str, Any] = {}
        if self.cases is not None:
            changes["cases"] = recipe.cases.model_copy(update={"source": MEMORY, "test_source": None})
        if self.model is not None:
            changes["policy"] = recipe.policy.model_copy(update={"model": MEMORY})
        if self.rewards is not None:
            changes["rewards"] = {
                name: recipe.rewards.get(name, RewardRecipe()).model_copy(
                    update={"use": given if isinstance(given, str) else MEMORY}
                )
                for name, given in self._rewards().items()
            }
        return recipe.model_copy(update=changes)

    def functions(self) -> dict[str, Callable[..., Any]]:
        """The reward functions by component name."""
        return {name: given for name, given in self._rewards().items() if callable(given)}

    def _rewards(self) -> dict[str, Any]:
        """Component name -> a function or the name of a built-in reward. RewardError for anything else."""
        given = self.rewards
        if given is None:
            return {}
        if callable(given) or isinstance(given, str):
            given = [given]
        if isinstance(given, Sequence):
            given = {
                one if isinstance(one, str) else _name(one, place): one for place, one in enumerate(given)
            }
        if not isinstance(given, Mapping) or not given:
            raise RewardError(
                f"{given!r:.60} is no reward",
                where="rewards",
                hint="Pass a function, a list of functions and built-in names, or name -> function.",
            )
        for name, one in given.items():
            if not callable(one) and not isinstance(one, str):
                raise RewardError(
                    f"{one!r:.60} is no reward",
                    where=f"rewards, {name}",
                    hint="Pass a function or the name of a built-in reward.",
                )
        return dict(given)


def _name(function: Callable[..., Any], place: int) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else f"reward_{place + 1}"


# No objects in memory: the recipe names everything.
NAMED = Objects()
