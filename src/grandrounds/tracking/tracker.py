"""What a tracker is: five methods, which any object may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

# Where a run stands when a tracker is told of its end: stopped ones can be resumed.
Ending = Literal["finished", "stopped", "failed"]
# What numbers are counted by: rounds of GRPO, or steps of the SFT warm-up.
Axis = Literal["round", "sft"]
PROJECT = "grandrounds"


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is to show.

    recipe: every setting, "grpo.group_size" -> value. known: what `begin` returned when the run was tracked before, so
    that the tracker goes on with it; None for the first time. rounds, sft: rounds and SFT steps done already.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    known: str | None = None
    rounds: int = 0
    sft: int = 0


@runtime_checkable
class Tracker(Protocol):
    """Shows a run. An error that a method raises ends the tracking by this tracker, never the run."""

    name: str

    def begin(self, run: TrackedRun) -> str:
        """Begin, or go on. Returns what the tracker calls the run, kept in the run's folder for a resume."""
        ...

    def numbers(self, axis: Axis, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers by name, after a round or an SFT step."""
        ...

    def completions(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Some completions of a round, rows with the same columns. Texts come with control characters written out, and
        cut where they are very long. A tracker without tables does nothing."""
        ...

    def files(self, files: Mapping[str, Path]) -> None:
        """Files of the run at its end, by their names: "best/adapter_model.safetensors"."""
        ...

    def end(self, ending: Ending) -> None:
        """The run has ended, or may be resumed later."""
        ...
