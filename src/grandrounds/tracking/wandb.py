"""Weights & Biases: written into RUN/wandb, and sent only where WANDB_MODE=online says so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.tracking.tracker import PROJECT, Axis, Ending, TrackedRun


class WandbTracker:
    """Project `grandrounds`, or WANDB_PROJECT. Without WANDB_MODE it is offline; `wandb sync` sends later.

    Names of machine, user and code are left out.
    """

    name = "wandb"

    def __init__(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb = wandb

    def begin(self, run: TrackedRun) -> str:
        """See `Tracker`."""
        settings = self._wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            host="",
            username="",
        )
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run.name,
            id=run.known,
            resume=None if run.known is None else "allow",
            mode=os.environ.get("WANDB_MODE") or "offline",
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
            config=dict(run.recipe),
            allow_val_change=True,
            settings=settings,
        )
        self._run.define_metric("*", step_metric="round")
        self._run.define_metric("sft/*", step_metric="sft/step")
        return str(self._run.id)

    def numbers(self, axis: Axis, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`. Rounds and SFT steps are axes of their own: W&B's step may only rise."""
        if axis == "sft":
            self._run.log({"sft/step": step, **{f"sft/{name}": value for name, value in values.items()}})
        else:
            self._run.log({"round": step, **values})

    def completions(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table `completions` of the round."""
        columns = list(rows[0])
        table = self._wandb.Table(columns=columns, data=[[row[name] for name in columns] for row in rows])
        self._run.log({"round": number, "completions": table})

    def files(self, files: Mapping[str, Path]) -> None:
        """One artefact of the type `run`."""
        artifact = self._wandb.Artifact(f"run-{self._run.id}", type="run")
        for name, path in files.items():
            artifact.add_file(str(path), name=name)
        self._run.log_artifact(artifact)

    def end(self, ending: Ending) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=0 if ending == "finished" else 1)
