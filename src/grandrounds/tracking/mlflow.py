"""MLflow: its own default, a database in the folder where the run is started, or what MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from grandrounds.tracking.tracker import PROJECT, Axis, Ending, TrackedRun

# No telemetry; and a server that is gone holds a run up for seconds, not for the minutes of MLflow's own defaults.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# The most that one call takes, and the longest value of a parameter.
PARAMETERS, LONGEST = 100, 6000


class MlflowTracker:
    """Experiment `grandrounds`, or MLFLOW_EXPERIMENT_NAME. A resumed run goes on under its id."""

    name = "mlflow"

    def __init__(self) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow

        self._mlflow = mlflow
        self._run = ""

    def begin(self, run: TrackedRun) -> str:
        """See `Tracker`. Parameters cannot be changed in MLflow: those of a resumed run stay as it began."""
        self._client = self._mlflow.MlflowClient()
        if run.known is not None:
            self._client.update_run(run.known, status="RUNNING")
            self._run = run.known
            return run.known
        made = self._client.create_run(self._experiment(), run_name=run.name)
        self._run = made.info.run_id
        for some in _batches(run.recipe):
            parameters = [
                self._mlflow.entities.Param(_name(key), _fitting(str(value))) for key, value in some
            ]
            self._client.log_batch(self._run, params=parameters)
        return self._run

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known is not None else self._client.create_experiment(name)

    def numbers(self, axis: Axis, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`. Numbers of the warm-up are named sft/…"""
        now, prefix = round(1000 * time.time()), "sft/" if axis == "sft" else ""
        metric = self._mlflow.entities.Metric
        metrics = [metric(_name(prefix + name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def completions(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table completions/000020.json."""
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        self._client.log_table(self._run, columns, f"completions/{number:06d}.json")

    def files(self, files: Mapping[str, Path]) -> None:
        """As artefacts."""
        for name, path in files.items():
            folder = str(PurePosixPath(name).parent)
            self._client.log_artifact(self._run, str(path), None if folder == "." else folder)

    def end(self, ending: Ending) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run, STATUS[ending])


def _name(name: str) -> str:
    """The name without characters that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _fitting(value: str) -> str:
    """The value, or its beginning and where all of it is: MLflow itself would cut it with no word in it."""
    if len(value) <= LONGEST:
        return value
    said = f" [cut here: recipe.yaml among the artefacts has all {len(value):,} characters]"
    return value[: LONGEST - len(said)] + said


def _batches(recipe: Mapping[str, Any]) -> Iterator[list[tuple[str, Any]]]:
    pairs = list(recipe.items())
    for first in range(0, len(pairs), PARAMETERS):
        yield pairs[first : first + PARAMETERS]
