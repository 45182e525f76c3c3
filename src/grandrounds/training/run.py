"""Starts a run from a recipe, or resumes one, up to the trained policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.algorithm.grpo import Position, Round, run_rounds
from grandrounds.errors import command
from grandrounds.machine import GIB, memory_in_use
from grandrounds.policy.model import Policy
from grandrounds.recipe import Recipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import Sampler
from grandrounds.tracking.known import open_trackers
from grandrounds.tracking.tracker import Tracker
from grandrounds.training.changes import change_recipe
from grandrounds.training.folder import RunFolder
from grandrounds.training.guard import Guard
from grandrounds.training.held_out import HeldOut
from grandrounds.training.interrupt import Interrupt, interruptible
from grandrounds.training.metrics import round_metrics
from grandrounds.training.monitor.monitor import Monitor
from grandrounds.training.monitor.response import roll_back, tell, tell_of_pause
from grandrounds.training.objects import Objects
from grandrounds.training.out_of_memory import memory_boundary
from grandrounds.training.progress import PlainProgress, Progress
from grandrounds.training.saving import restore_rounds, restore_warmup, save_checkpoint
from grandrounds.training.setup import Setup, assemble, grpo_learner, with_frequencies
from grandrounds.training.tracked import Tracking
from grandrounds.training.warmup import run_warmup, teachable

# Returns True to end the run after this round; anything else lets it go on.
Callback = Callable[[Round], object]


@dataclass(frozen=True)
class Run:
    """A run's folder, the rounds done, and whether it came to its end: False where it was interrupted."""

    folder: Path
    rounds: int
    finished: bool


def train(
    recipe: Recipe,
    out: Path | str | None = None,
    *,
    cases: Any = None,
    rewards: Any = None,
    model: tuple[Any, Any] | None = None,
    sampler: Callable[[Policy], Sampler] = NativeSampler,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    trackers: Sequence[str | Tracker] = (),
    track_completions: int | None = None,
) -> Run:
    """SFT warm-up, then rounds of GRPO, in a new folder (default: runs/NAME, with a number where that exists).

    Objects in memory replace what the recipe names:

    cases: a CaseBook, cases, or rows as mappings (a list of dicts, a `datasets.Dataset`), split as the recipe says.
    rewards: a function, several, or name -> function; built-in ones by their names. `recipe.rewards.NAME` gives the
        weight and limits of each.
    model: a causal LM of transformers and its tokenizer. The model is trained in place.
    sampler: called once with the policy, returns its sampler.
    callbacks: each is called with every `Round` after it has been written down; one that returns True ends the run,
        which is saved and can be resumed. progress: shows the run's progress; prints lines by default.
    trackers: names of `tracking.known.TRACKERS`, or objects with a `Tracker`'s methods; one that fails is dropped.
    track_completions: rounds between their tables of completions, 0 for none; None: as often as it evaluates.

    Raises the `GrandRoundsError` family. Ctrl-C saves the run and returns it unfinished.
    """
    progress = progress or PlainProgress()
    tracking = Tracking(open_trackers(trackers), track_completions, progress.note)
    objects = Objects(cases, rewards, model, sampler)
    recipe = objects.named_in(recipe)
    folder = RunFolder.create(Path(out) if out else next_folder(recipe.name), recipe)
    return _run(recipe, folder, progress, objects, callbacks, tracking)


def resume(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    cases: Any = None,
    rewards: Any = None,
    model: tuple[Any, Any] | None = None,
    sampler: Callable[[Policy], Sampler] = NativeSampler,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    trackers: Sequence[str | Tracker] = (),
    track_completions: int | None = None,
) -> Run:
    """Resume from the newest checkpoint. The result equals that of an uninterrupted run on the same machine.

    overrides: "key=value" changes of the recipe that contradict nothing that was done, such as "rounds=200" for a run
    that has finished; `training.changes` lists them. What `train` was given in memory must be given again. RunError
    where something is missing or other than it was. trackers: go on with the run that they began.
    """
    folder = RunFolder.open(path)
    progress = progress or PlainProgress()
    tracking = Tracking(open_trackers(trackers), track_completions, progress.note)
    with folder.locked():
        newest = folder.checkpoints.latest(lambda damage: None)
        for change in change_recipe(folder, overrides, int(newest.name) if newest else 0):
            progress.note(change)
    recipe, objects = folder.recipe(), Objects(cases, rewards, model, sampler)
    for change in folder.environment_changes():
        progress.note(f"Since the run began: {change}. Numbers may differ.")
    return _run(recipe, folder, progress, objects, callbacks, tracking)


def next_folder(name: str) -> Path:
    """runs/NAME; or runs/NAME-2, and so on, where that exists."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _run(
    recipe: Recipe,
    folder: RunFolder,
    progress: Progress,
    objects: Objects,
    callbacks: Sequence[Callback],
    tracking: Tracking,
) -> Run:
    with (
        folder.locked(),
        interruptible(progress.stopping) as interrupt,
        progress,
        tracking,
        memory_boundary(recipe, folder.path),
        ExitStack() as at_the_end,
    ):
        checkpoint = folder.checkpoints.latest(progress.note)
        if checkpoint is not None:
            setup = assemble(recipe, folder, progress, checkpoint, objects)
            at_the_end.callback(setup.rewards.close)
            position = restore_rounds(setup, checkpoint)
            folder.rewind(position.round)
            folder.warmup.clear()
            _begin(setup, recipe.sft.steps, position.round)
            tracking.begin(folder, setup.recipe, rounds=position.round, sft=recipe.sft.steps)
        else:
            half_warm = folder.warmup.latest(progress.note)
            setup = assemble(recipe, folder, progress, half_warm, objects)
            at_the_end.callback(setup.rewards.close)
            folder.write_fitted(with_frequencies(setup.book))
            step = restore_warmup(setup, half_warm) if half_warm else 0
            _begin(setup, step, 0)
            tracking.begin(folder, setup.recipe, rounds=0, sft=step)
            if not _warmed_up(setup, step, interrupt, tracking):
                return _stopped(folder, 0, progress, tracking)
            position = _start(setup)
        held_out = HeldOut.of(setup)
        ended = _rounds(setup, position, interrupt, held_out, callbacks, tracking)
        if held_out.rows:
            progress.note(held_out.summary())
        if ended.early:
            return _stopped(folder, ended.round, progress, tracking)
        progress.finished(f"Done: {folder.path}")
        return Run(folder.path, ended.round, finished=True)


def _begin(setup: Setup, step: int, rounds: int) -> None:
    timed = setup.folder.times() if step or rounds else {}
    setup.course.begin(step, rounds, timed)
    setup.progress.planned(setup.recipe, step, rounds, timed)


@dataclass(frozen=True)
class _Ended:
    """The round that the run is at when its rounds end, and whether more of them were wanted."""

    round: int
    early: bool


def _rounds(
    setup: Setup,
    position: Position,
    interrupt: Interrupt,
    held_out: HeldOut,
    callbacks: Sequence[Callback],
    tracking: Tracking,
) -> _Ended:
    """Rounds from the one after `position` on, each written down, watched and saved."""
    recipe, folder = setup.recipe, setup.folder
    guard, monitor = Guard(recipe.guard, folder.metrics()), Monitor.of(setup, held_out)
    stop = interrupt.requested or held_out.exhausted
    if held_out.prompts and not held_out.rows and not stop:
        tracking.evaluated(position.round, held_out.evaluate(position.round))
    for done in () if stop else run_rounds(setup.grpo(), position):
        position, row = done.position, round_metrics(done)
        row["memory_gib"] = memory_in_use(str(setup.policy.device)) / GIB
        if held_out.due(position.round):
            row.update(held_out.evaluate(position.round))
        folder.write_rollouts(position.round, done.groups, tokens=recipe.rollouts.tokens)
        folder.append_metrics(row)
        setup.course.round(position.round)
        setup.progress.round(position.round, recipe.rounds, row)
        tracking.round(position.round, row, done.groups)
        alarm = monitor.check(done, row, evaluated=held_out.due(position.round))
        if alarm is not None:
            tell(setup, alarm)
        _tell_of_patience(setup, held_out)
        ended = [callback(done) is True for callback in callbacks]
        guard.check(row)
        if alarm is not None and alarm.action == "roll_back":
            return _Ended(roll_back(setup, held_out, alarm, position.round), early=True)
        paused = alarm is not None and alarm.action == "pause" and position.round < recipe.rounds
        stop = interrupt.requested or held_out.exhausted or any(ended) or paused
        best = held_out.best["round"] if monitor.may_roll_back and held_out.best else None
        if stop or best == position.round or _due(recipe, position.round):
            save_checkpoint(setup, position, also=() if best is None else (best,))
        if paused and alarm is not None:
            tell_of_pause(setup, alarm, position.round)
        if stop:
            break
    return _Ended(position.round, early=position.round < recipe.rounds and not held_out.exhausted)


def _due(recipe: Recipe, number: int) -> bool:
    """Whether a checkpoint is due after this round."""
    return number % recipe.checkpoint.every == 0 or number == recipe.rounds


def _tell_of_patience(setup: Setup, held_out: HeldOut) -> None:
    if held_out.exhausted:
        setup.progress.note(
            f"Stopping: {setup.recipe.evaluation.patience} evaluations in a row brought no better policy. Resume it "
            f"with: {command('resume', setup.folder.path)} --set evaluation.patience=0"
        )


def _warmed_up(setup: Setup, step: int, interrupt: Interrupt, tracking: Tracking) -> bool:
    """Do the rest of the warm-up and save the cold start. False where it was interrupted."""
    if setup.recipe.sft.steps:
        step = run_warmup(setup, teachable(setup), step, interrupt, tracking.sft)
        if step < setup.recipe.sft.steps:
            return False
    setup.learner = grpo_learner(setup.recipe, setup.policy, setup.loss)
    save_checkpoint(setup, _start(setup))
    setup.folder.warmup.clear()
    return True


def _start(setup: Setup) -> Position:
    """The position before the first round. The warm-up's draws count, so that cases it has not shown come first."""
    sft = setup.recipe.sft
    return Position(draws=sft.steps * min(sft.batch_cases, len(setup.book.train)))


def _stopped(folder: RunFolder, rounds: int, progress: Progress, tracking: Tracking) -> Run:
    tracking.ending = "stopped"
    progress.finished(f"Stopped and saved. Resume it with: {command('resume', folder.path)}")
    return Run(folder.path, rounds, finished=False)
