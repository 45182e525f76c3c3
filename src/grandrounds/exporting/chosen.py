"""Which of a run's checkpoints is exported, and what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.errors import RunError, command
from grandrounds.policy.merged import ADAPTER_CONFIG
from grandrounds.recipe import Recipe
from grandrounds.training.checkpoint import STATE, damage_of
from grandrounds.training.folder import RunFolder
from grandrounds.training.held_out import BEST
from grandrounds.training.saving import name_of
from grandrounds.training.target import Target, open_target

NEWEST, COMPUTED = "newest", "float32"


@dataclass(frozen=True)
class Chosen:
    """A checkpoint of a run. name: "best" or its number. round: after which round its policy was saved.

    trained_in: the precision of the run. Loaded, the policy computes in float32, which holds the same weights.
    """

    run: RunFolder
    path: Path
    name: str
    round: int
    target: Target
    trained_in: str

    @property
    def recipe(self) -> Recipe:
        """The run's recipe, with weights to be computed in float32."""
        return self.target.recipe

    @property
    def has_adapter(self) -> bool:
        """Whether it holds an adapter rather than a whole model."""
        return (self.path / ADAPTER_CONFIG).is_file()

    def adapter_config(self) -> dict[str, Any]:
        """PEFT's settings of the adapter."""
        return json.loads((self.path / ADAPTER_CONFIG).read_text(encoding="utf-8"))


def choose(run: Path | str, checkpoint: str | int | None = None, overrides: Sequence[str] = ()) -> Chosen:
    """The checkpoint `best`, `newest` or that after round N; without a wish the best one, else the newest.

    RunError where there is no such checkpoint, or where its files are damaged.
    """
    folder = RunFolder.open(run)
    names = [path.name for path in folder.checkpoints.complete()]
    best = folder.checkpoints.folder / BEST
    wanted = str(checkpoint) if checkpoint is not None else BEST if best.is_dir() else NEWEST
    if wanted == NEWEST and names:
        wanted = names[-1]
    path = folder.checkpoints.folder / (name_of(int(wanted)) if wanted.isdigit() else wanted)
    if not path.is_dir() or not (wanted == BEST or wanted.isdigit()):
        there = ", ".join([*([BEST] if best.is_dir() else []), *(str(int(name)) for name in names)])
        raise RunError(
            f"the run has no checkpoint `{checkpoint}`" if names else "the run has no checkpoint yet",
            where=str(run),
            hint=f"It has {there}, and `{NEWEST}`." if names else f"Resume it with: {command('resume', run)}",
        )
    if damage := damage_of(path):
        raise RunError(f"the checkpoint is damaged: {damage}", where=str(path), hint="Name another one.")
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    target = open_target(str(path), (f"policy.precision={COMPUTED}", *overrides))
    return Chosen(folder, path, path.name, int(state["round"]), target, folder.recipe().policy.precision)
