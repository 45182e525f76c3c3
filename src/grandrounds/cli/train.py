"""The commands `sft`, `train` and `resume`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.recipe_file import load_recipe

if TYPE_CHECKING:
    from grandrounds.training.progress import PlainProgress


def start_training(recipe: str, overrides: Sequence[str], out: Path | None, *, watch: bool = False) -> None:
    """Begin a run; with `watch`, beside a page that shows it."""
    resolved = load_recipe(recipe, overrides)
    if watch:
        from grandrounds.view.serving import require_packages

        require_packages()
    quiet_libraries()
    from grandrounds.cli.progress import run_progress
    from grandrounds.training.run import next_folder, train

    progress = run_progress()
    out = out or next_folder(resolved.name)
    with _watched(out, progress) if watch else nullcontext():
        finished = train(resolved, out, progress=progress).finished
    if watch:
        print(f"The page has ended with the training. It opens again with: grandrounds view {out}")
    _end(finished)


def _watched(run: Path, progress: PlainProgress) -> AbstractContextManager[None]:
    from grandrounds.view.watching import watched

    return watched(run, progress.note)


def resume_training(run: Path, overrides: Sequence[str]) -> None:
    """Go on with a run."""
    quiet_libraries()
    from grandrounds.cli.progress import run_progress
    from grandrounds.training.run import resume

    _end(resume(run, overrides, progress=run_progress()).finished)


def _end(finished: bool) -> None:
    if not finished:
        sys.exit(130)


def quiet_libraries() -> None:
    """Silence libraries' progress bars and advice, which would disrupt our output. Errors remain exceptions."""
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("transformers", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
