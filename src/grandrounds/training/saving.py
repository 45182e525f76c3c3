"""What a checkpoint holds, and how a run continues from it.

checkpoints/NNNNNN/   after round NNNNNN; 000000 is the cold start, before the first round
warmup/NNNNNN/        after SFT step NNNNNN; only the newest is kept, and none after the warm-up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from grandrounds.algorithm.grpo import Position
from grandrounds.policy.load import load_policy
from grandrounds.policy.save import save_policy
from grandrounds.training.checkpoint import COLD_START, Checkpoints, read_state, write_state
from grandrounds.training.setup import Setup, grpo_learner, saved_policy


def save_checkpoint(setup: Setup, position: Position, also: Sequence[int] = ()) -> None:
    """Save a checkpoint after a round, by one atomic rename. Then remove the oldest beyond `checkpoint.keep`.

    also: rounds whose checkpoints stay.
    """
    keep, staying = setup.recipe.checkpoint.keep, [name_of(number) for number in also]
    _save(setup, setup.folder.checkpoints, position.round, asdict(position), keep, staying)


def save_warmup(setup: Setup, step: int) -> None:
    """Save a checkpoint after an SFT step, so that a long warm-up is not lost."""
    _save(setup, setup.folder.warmup, step, {"step": step}, keep=1)


def name_of(number: int) -> str:
    """The name of a round's or step's checkpoint: "000020"."""
    return f"{number:06d}"


def _save(
    setup: Setup,
    store: Checkpoints,
    number: int,
    counters: dict[str, int],
    keep: int,
    also: Sequence[str] = (),
) -> None:
    def write(folder: Path) -> None:
        save_policy(setup.policy, folder)
        write_state(folder, setup.learner.state_dict(), counters)

    setup.folder.write_times(setup.course.timed)
    store.save(name_of(number), write)
    store.prune(keep, also)


def restore_warmup(setup: Setup, checkpoint: Path) -> int:
    """Restore the optimizer state; the policy has been loaded from there already. Returns the SFT steps done."""
    tensors, counters = read_state(checkpoint)
    setup.learner.load_state_dict(tensors)
    return int(counters["step"])


def restore_rounds(setup: Setup, checkpoint: Path) -> Position:
    """As `restore_warmup`, for the rounds. The reference is the cold start, not the policy in the checkpoint."""
    recipe = setup.recipe
    if recipe.grpo.beta and not setup.policy.adapter:
        cold = setup.folder.checkpoints.folder / COLD_START
        setup.policy.set_reference(load_policy(saved_policy(recipe, cold), seed=recipe.seed).base)
    setup.learner = grpo_learner(recipe, setup.policy, setup.loss)
    tensors, counters = read_state(checkpoint)
    setup.learner.load_state_dict(tensors)
    return Position(**counters)
