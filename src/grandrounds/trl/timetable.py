"""When a trainer logs, evaluates and saves, in optimizer steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grandrounds.trl.translation import Translation


@dataclass(frozen=True)
class Timetable:
    """Every how many optimizer steps something is done; 0: never.

    per_round, per_epoch: the steps of a round, and those in which every prompt is seen once.
    """

    per_round: int
    per_epoch: int
    log: int
    evaluate: int
    save: int
    log_first: bool

    def due(self, every: int, before: int, now: int, last: int) -> bool:
        """Whether a multiple of `every` lies in (before, now], or the end does."""
        return bool(every) and (now // every > before // every or now >= last)

    def logs(self, before: int, now: int) -> bool:
        """Whether numbers are logged after the steps (before, now]."""
        return (self.log_first and before == 0) or (bool(self.log) and now // self.log > before // self.log)


def timetable(made: Translation) -> Timetable:
    """The timetable of translated fields."""
    assert made.batches is not None
    assert made.prompts is not None
    values, epoch = made.values, made.batches.steps_per_epoch(made.prompts)
    logging = values["logging_steps"]
    evaluating = values["eval_steps"] or logging  # as transformers has it

    def every(strategy: str, steps: float) -> int:
        if values[strategy] == "epoch":
            return epoch
        return _steps(steps, made.steps or 0) if values[strategy] == "steps" else 0

    return Timetable(
        per_round=made.batches.steps_per_round,
        per_epoch=epoch,
        log=every("logging_strategy", logging),
        evaluate=every("eval_strategy", evaluating),
        save=every("save_strategy", values["save_steps"]),
        log_first=bool(values["logging_first_step"]),
    )


def _steps(steps: float, total: int) -> int:
    """A number of steps; below 1 a share of all."""
    return int(steps) if steps >= 1 else max(1, math.ceil(steps * total))
