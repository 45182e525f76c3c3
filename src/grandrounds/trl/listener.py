"""What follows each round: the trainer's state, logs, callbacks, evaluations and checkpoint-N folders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState

from grandrounds.algorithm.grpo import Round
from grandrounds.policy.model import Policy
from grandrounds.training.folder import RunFolder
from grandrounds.trl import checkpoints
from grandrounds.trl.config import GRPOConfig
from grandrounds.trl.logs import NAMES, averaged, sampled, write_completions
from grandrounds.trl.timetable import Timetable


@dataclass
class Listener:
    """Called with every round. `begin` it before a run, `end` it after.

    callbacks: objects with methods of transformers' TrainerCallback. on_step_end is called once for each round.
    """

    args: GRPOConfig
    when: Timetable
    callbacks: list[Any]
    evaluate: Callable[[], dict[str, float]]
    state: TrainerState = field(default_factory=TrainerState)
    control: TrainerControl = field(default_factory=TrainerControl)
    policy: Policy | None = None
    _rows: list[dict[str, float]] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)
    _saved: tuple[int, int, str] | None = None  # round, step, state, of a checkpoint without its folder
    _folder: RunFolder | None = None
    _started: float = 0.0

    @property
    def output(self) -> Path:
        """The script's output folder."""
        return Path(self.args.output_dir)

    def begin(self, folder: RunFolder, rounds_done: int, max_steps: int) -> None:
        """Set the state to that after so many rounds."""
        step = rounds_done * self.when.per_round
        known = checkpoints.history(self.output, step) if step else {}
        self.state.log_history[:] = [row for row in known.get("log_history", []) if row["step"] <= step]
        self.state.num_input_tokens_seen = known.get("num_input_tokens_seen", 0)
        self.state.global_step, self.state.max_steps = step, max_steps
        self.state.epoch = step / self.when.per_epoch
        self.state.logging_steps, self.state.eval_steps, self.state.save_steps = (
            self.when.log,
            self.when.evaluate,
            self.when.save,
        )
        self._folder, self._started = folder, time.perf_counter()
        self._rows, self._losses, self._saved = [], [], None
        self.control.should_training_stop = False

    def call(self, event: str, **further: Any) -> None:
        """Call a method of every callback that has it; one may return another control."""
        if self.policy is not None:
            further = {"model": self.policy.model, "processing_class": self.policy.tokenizer, **further}
        for callback in self.callbacks:
            if (method := getattr(callback, event, None)) is not None:
                self.control = method(self.args, self.state, self.control, **further) or self.control

    def __call__(self, done: Round) -> bool:
        """Count, log, evaluate and note a checkpoint; whether a callback wants the run to end."""
        self.publish()
        before, state = self.state.global_step, self.state
        now = done.position.round * self.when.per_round
        epoch = int(before / self.when.per_epoch)
        state.global_step, state.epoch = now, now / self.when.per_epoch
        self._count(done)
        self.call("on_step_end")
        if self.when.logs(before, now) or self.control.should_log:
            self._log_round(done)
        if self.when.due(self.when.evaluate, before, now, state.max_steps) or self.control.should_evaluate:
            self.evaluate()
        if int(state.epoch) > epoch:
            self.call("on_epoch_end")
            if now < state.max_steps:
                self.call("on_epoch_begin")
        if now < state.max_steps:
            self.call("on_step_begin")
        self.control.should_log = self.control.should_evaluate = False
        # The run saves its checkpoint after this; the folder is made before the next round.
        if self.when.due(self.when.save, before, now, state.max_steps):
            self._note_checkpoint()
        return self.control.should_training_stop

    def _count(self, done: Round) -> None:
        assert self.policy is not None
        for group in done.groups:
            self.state.num_input_tokens_seen += sum(
                len(group.prompt.tokens) + sample.length for sample in group.samples
            )
        row = sampled(done.groups, self.policy.eos_ids)
        row |= {theirs: done.metrics[ours] for ours, theirs in NAMES.items() if ours in done.metrics}
        self._rows.append({**row, "loss": done.metrics["loss"]})
        self._losses.append(done.metrics["loss"])

    def _log_round(self, done: Round) -> None:
        row = averaged(self._rows)
        self._rows.clear()
        self.log(
            {
                "loss": row.pop("loss"),
                "grad_norm": done.metrics["grad_norm"],
                "learning_rate": done.metrics["learning_rate"],
                "num_tokens": self.state.num_input_tokens_seen,
                **row,
            }
        )
        if self.args.log_completions:
            write_completions(self.output / "completions", self.state.global_step, done.groups)

    def log(self, logs: dict[str, Any]) -> None:
        """Add a row to the log's history, and show it to the callbacks."""
        logs = {**logs, "epoch": self.state.epoch}
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.call("on_log", logs=logs)

    def _note_checkpoint(self) -> None:
        step = self.state.global_step
        self._saved = (step // self.when.per_round, step, json.dumps(asdict(self.state), indent=2))

    def publish(self) -> None:
        """Make the folder checkpoint-N of a checkpoint that the run has saved since."""
        if self._saved is None or self._folder is None:
            return
        number, step, state = self._saved
        self._saved = None
        source = self._folder.checkpoints.folder / f"{number:06d}"
        if source.is_dir():
            checkpoints.publish(source, self.output, step, state)
            checkpoints.prune(self.output, self.args.save_total_limit)
            self.call("on_save")

    def end(self) -> dict[str, float]:
        """The last log, and the last calls of the callbacks; returns the run's own metrics."""
        if self.when.save and self._saved is None:
            self._note_checkpoint()  # a run that was stopped is saved where it stopped
        self.publish()
        seconds = time.perf_counter() - self._started
        steps = len(self._losses)
        metrics = {
            "train_runtime": seconds,
            "train_steps_per_second": steps * self.when.per_round / seconds,
            "train_loss": mean(self._losses),
        }
        self.log(metrics)
        self.call("on_train_end")
        return metrics


def mean(values: Sequence[float]) -> float:
    """Their mean; 0 of none."""
    return sum(values) / len(values) if values else 0.0
