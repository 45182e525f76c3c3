"""A run from recipe to trained policy: start it, or take it up again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grandrounds.recipe import Recipe
from grandrounds.training.folder import RunFolder
from grandrounds.training.interrupt import Interrupt, interruptible
from grandrounds.training.progress import Progress, progress_for
from grandrounds.training.rounds import run_rounds
from grandrounds.training.saving import Position, restore_rounds, restore_warmup, save_checkpoint
from grandrounds.training.setup import Setup, assemble, grpo_learner
from grandrounds.training.warmup import run_warmup, teachable


@dataclass(frozen=True)
class Run:
    """A run's folder, the rounds done, and whether these are all."""

    folder: Path
    rounds: int
    finished: bool


def train(recipe: Recipe, out: Path | str | None = None, *, progress: Progress | None = None) -> Run:
    """SFT warm-up, then rounds of GRPO, in a new folder (default: runs/NAME, numbered where that exists).

    Raises the `GrandRoundsError` family. Ctrl-C saves and returns a run that is not finished.
    """
    folder = RunFolder.create(Path(out) if out else next_folder(recipe.name), recipe)
    return _run(recipe, folder, progress or progress_for(recipe))


def resume(path: Path | str, *, progress: Progress | None = None) -> Run:
    """Go on from the newest checkpoint; the result equals that of an uninterrupted run on the same machine."""
    folder = RunFolder.open(path)
    recipe = folder.recipe()
    progress = progress or progress_for(recipe)
    for change in folder.environment_changes():
        progress.note(f"Since the run began: {change}. Numbers may differ.")
    return _run(recipe, folder, progress)


def next_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, … where that exists."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _run(recipe: Recipe, folder: RunFolder, progress: Progress) -> Run:
    with folder.locked(), interruptible() as interrupt, progress:
        checkpoint = folder.checkpoints.latest(progress.note)
        if checkpoint is not None:
            setup = assemble(recipe, folder, progress, checkpoint)
            position = restore_rounds(setup, checkpoint)
            folder.rewind(position.round)
            folder.warmup.clear()
        else:
            half_warm = folder.warmup.latest(progress.note)
            setup = assemble(recipe, folder, progress, half_warm)
            folder.write_fitted(setup.book.fitted)
            if not _warmed_up(setup, restore_warmup(setup, half_warm) if half_warm else 0, interrupt):
                return _stopped(folder, 0, progress)
            position = _start(setup)
        position = run_rounds(setup, position, interrupt)
        if position.round < recipe.rounds:
            return _stopped(folder, position.round, progress)
        progress.finished(f"Done: {folder.path}")
        return Run(folder.path, position.round, finished=True)


def _warmed_up(setup: Setup, step: int, interrupt: Interrupt) -> bool:
    """Do what is left of the warm-up and save the cold start; False where it was interrupted."""
    if setup.recipe.sft.steps:
        step = run_warmup(setup, teachable(setup), step, interrupt)
        if step < setup.recipe.sft.steps:
            return False
    setup.learner = grpo_learner(setup.recipe, setup.policy)
    save_checkpoint(setup, _start(setup))
    setup.folder.warmup.clear()
    return True


def _start(setup: Setup) -> Position:
    """Before the first round. Cases are drawn on from where the warm-up ended: first those that it has not shown."""
    sft = setup.recipe.sft
    return Position(draws=sft.steps * min(sft.batch_cases, len(setup.book.train)))


def _stopped(folder: RunFolder, rounds: int, progress: Progress) -> Run:
    progress.finished(f"Stopped and saved. Go on with: grandrounds resume {folder.path}")
    return Run(folder.path, rounds, finished=False)
