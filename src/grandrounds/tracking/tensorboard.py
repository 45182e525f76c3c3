"""TensorBoard: event files in RUN/tensorboard, one folder for the rounds and one for the SFT warm-up."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.tracking.tracker import Axis, Ending, TrackedRun

# What Markdown reads as more than text -> that character as HTML.
MARKS = {**{ord(mark): f"&#{ord(mark)};" for mark in "\\`*_[]|~!"}, ord("\n"): "<br>"}


class TensorboardTracker:
    """Show it with `tensorboard --logdir RUN/tensorboard`. It keeps no files of the run."""

    name = "tensorboard"

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make = SummaryWriter
        self._writers: dict[str, Any] = {}

    def begin(self, run: TrackedRun) -> str:
        """See `Tracker`. What was written of rounds that are made again is hidden."""
        folder, done = run.folder / "tensorboard", {"round": run.rounds, "sft": run.sft}
        names = {"round": "rounds", "sft": "sft"}
        self._writers = {
            axis: self._make(str(folder / names[axis]), purge_step=done[axis] + 1 if run.known else None)
            for axis in names
        }
        self._writers["round"].add_text(
            "recipe", _table([{"key": k, "value": v} for k, v in run.recipe.items()]), 0
        )
        return str(folder.name)

    def numbers(self, axis: Axis, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writers[axis].add_scalar(name, value, step)
        self._writers[axis].flush()

    def completions(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A Markdown table under `text`."""
        self._writers["round"].add_text("completions", _table(rows), number)

    def files(self, files: Mapping[str, Path]) -> None:
        """TensorBoard keeps none."""

    def end(self, ending: Ending) -> None:
        """See `Tracker`."""
        for writer in self._writers.values():
            writer.close()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table, with everything that a browser or Markdown would read as more than text escaped."""
    lines = [
        list(rows[0]),
        ["---"] * len(rows[0]),
        *([_cell(value) for value in row.values()] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: Any) -> str:
    return html.escape(str(value)).translate(MARKS)
