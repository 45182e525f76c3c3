"""The commands `sft`, `train` and `resume`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import RecipeError, command
from grandrounds.recipe_file import load_recipe

if TYPE_CHECKING:
    from grandrounds.training.progress import Progress


def start_training(
    recipe: str,
    overrides: Sequence[str],
    out: Path | None,
    *,
    watch: bool = False,
    events: bool = False,
    **tracked: Any,
) -> None:
    """Begin a run; with `watch`, beside a page that shows it; with `events`, reported for machines.

    tracked: `track`, the trackers, and `track_completions`, as for `train`.
    """
    resolved = load_recipe(recipe, overrides)
    quiet_libraries()
    from grandrounds.training.run import next_folder, train

    progress, out = _progress(events), out or next_folder(resolved.name)
    with _watched(out, progress, watch):
        finished = train(resolved, out, progress=progress, **_trackers(**tracked)).finished
    _end(finished)


def sft_overrides(overrides: Sequence[str], reasoning: bool) -> list[str]:
    """The user's overrides, and those that make SFT alone of a recipe. RecipeError where they contradict each other."""
    own = {"rounds": "0", "sft.reasoning": str(reasoning).lower()}
    instead = {"rounds": "Leave it out, or use `grandrounds train`.", "sft.reasoning": "Use --no-reasoning."}
    for one in overrides:
        if (key := one.partition("=")[0].strip()) in own:
            raise RecipeError(f"`sft` itself sets `{key}`", where=f"--set {one}", hint=instead[key])
    return [*overrides, *(f"{key}={value}" for key, value in own.items())]


def resume_training(
    run: Path, overrides: Sequence[str], *, watch: bool = False, events: bool = False, **tracked: Any
) -> None:
    """Go on with a run, as `start_training`."""
    quiet_libraries()
    from grandrounds.training.run import resume

    progress = _progress(events)
    with _watched(run, progress, watch):
        finished = resume(run, overrides, progress=progress, **_trackers(**tracked)).finished
    _end(finished)


def _trackers(track: Sequence[str] = (), track_completions: int | None = None) -> dict[str, Any]:
    return {"trackers": track, "track_completions": track_completions}


def _progress(events: bool) -> Progress:
    from grandrounds.cli.events import JsonEvents
    from grandrounds.cli.progress import run_progress

    return JsonEvents() if events else run_progress()


@contextmanager
def _watched(run: Path, progress: Progress, watch: bool) -> Iterator[None]:
    if not watch:
        yield
        return
    from grandrounds.view.serving import PACKAGES
    from grandrounds.view.watching import watched
    from grandrounds.web.port import require_packages

    require_packages(PACKAGES, "view")
    with watched(run, progress.note):
        yield
    progress.note(f"The page has ended with the training. It opens again with: {command('view', run)}")


def _end(finished: bool) -> None:
    if not finished:
        sys.exit(130)


def quiet_libraries() -> None:
    """Silence libraries' progress bars and advice, which would disrupt our output, and say ourselves what takes long.
    Errors remain exceptions."""
    import os
    import warnings

    from grandrounds.cli.steps import tell_steps

    tell_steps()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("transformers", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
