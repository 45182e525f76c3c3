"""What TRL passes to a reward function besides the columns: the state of the run, and two functions to log by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from grandrounds.errors import RewardError


@dataclass(frozen=True)
class TrainerState:
    """Where the run stands, under the names of transformers' TrainerState.

    global_step: the round, from 1. max_steps: all rounds. epoch: passes over the cases so far.
    """

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0


@dataclass
class Logged:
    """What reward functions log of one group of `size` samples: metrics by name, and values for each sample."""

    size: int
    metrics: dict[str, list[float]] = field(default_factory=dict)
    extras: dict[str, list[Any]] = field(default_factory=dict)

    def log_metric(self, name: str, value: float) -> None:
        """A number for the metrics, averaged over the round as `logged/NAME`. RewardError for what is none."""
        number = value.item() if hasattr(value, "item") else value
        if not isinstance(number, Real) or not math.isfinite(number):
            raise RewardError(
                f"log_metric was given {value!r:.80}", where=str(name), hint="Log a finite number."
            )
        self.metrics.setdefault(str(name), []).append(float(number))

    def log_extra(self, name: str, values: Sequence[Any]) -> None:
        """A value for each sample, for the rollouts' column `extras`. RewardError for another number of them."""
        listed = values.tolist() if hasattr(values, "tolist") else list(values)
        if len(listed) != self.size:
            raise RewardError(
                f"log_extra was given {len(listed)} values for {self.size} completions",
                where=str(name),
                hint="Log one value for each completion.",
            )
        self.extras[str(name)] = listed

    def arguments(self, state: TrainerState) -> dict[str, Any]:
        """The keyword arguments of a function in TRL's form."""
        return {"trainer_state": state, "log_metric": self.log_metric, "log_extra": self.log_extra}
