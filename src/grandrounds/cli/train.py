"""The commands `sft`, `train` and `resume`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from grandrounds.recipe_file import load_recipe


def start_training(recipe: str, overrides: Sequence[str], out: Path | None) -> None:
    """Begin a run."""
    resolved = load_recipe(recipe, overrides)
    quiet_libraries()
    from grandrounds.cli.progress import run_progress
    from grandrounds.training.run import train

    _end(train(resolved, out, progress=run_progress()).finished)


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
