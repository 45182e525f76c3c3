"""Trackio: a database on this machine (TRACKIO_DIR), or the Space or server that its environment variables name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from grandrounds.tracking.tracker import PROJECT, Axis, Ending, TrackedRun


class TrackioTracker:
    """Project `grandrounds`, or TRACKIO_PROJECT. A run is known by its name: its folder's, made unique."""

    name = "trackio"

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import trackio

        self._trackio = trackio

    def begin(self, run: TrackedRun) -> str:
        """See `Tracker`."""
        name = run.known or f"{run.name}-{os.urandom(4).hex()}"
        with redirect_stdout(sys.stderr):  # what the run prints may be read by a machine
            self._run = self._trackio.init(
                project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
                name=name,
                resume="never" if run.known is None else "allow",
                config=dict(run.recipe),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return name

    def numbers(self, axis: Axis, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`. Numbers of the warm-up are named sft/…"""
        prefix = "sft/" if axis == "sft" else ""
        self._run.log({prefix + name: value for name, value in values.items()}, step=step)

    def completions(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table `completions` of the round."""
        import pandas as pd

        self._run.log({"completions": self._trackio.Table(dataframe=pd.DataFrame(list(rows)))}, step=number)

    def files(self, files: Mapping[str, Path]) -> None:
        """One artefact of the type `run`."""
        artifact = self._trackio.Artifact(f"run-{self._run.name}", type="run")
        for name, path in files.items():
            artifact.add_file(str(path), name=name)
        self._run.log_artifact(artifact)

    def end(self, ending: Ending) -> None:
        """See `Tracker`. Trackio has no word for a run that failed."""
        with redirect_stdout(sys.stderr):
            self._trackio.finish()
