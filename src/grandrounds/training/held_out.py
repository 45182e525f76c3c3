"""Evaluation while training: the same held-out cases every few rounds, and the best policy.

    evaluations.jsonl   a row for each evaluation, with every case's share of right answers
    checkpoints/best    the policy of the best evaluation, by `evaluation.best`

All of it follows from the rows written so far: a resumed run evaluates and keeps as an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grandrounds.algorithm.cursor import take
from grandrounds.evaluation.evaluate import evaluate
from grandrounds.evaluation.result import Evaluation
from grandrounds.policy.save import save_policy
from grandrounds.sampling.prompts import split_by_length
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.shares import percent
from grandrounds.training.checkpoint import STATE
from grandrounds.training.files import write_json
from grandrounds.training.progress import MetricsRow
from grandrounds.training.setup import Setup
from grandrounds.types import Prompt

BEST = "best"
PREFIX = "held_out/"
MEASURES = ("accuracy", "format_rate", "consistency", "evidence", "validity_given_correct")


@dataclass
class HeldOut:
    """The held-out cases of a run, none where the recipe evaluates none, and their evaluations so far."""

    setup: Setup
    prompts: Sequence[Prompt]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, setup: Setup) -> HeldOut:
        """As the recipe says; the cases are drawn by its seed."""
        how = setup.recipe.evaluation
        if not how.every or not setup.recipe.rounds:
            return cls(setup, ())
        cases = setup.book.watched
        chosen = (
            [cases[i] for i in take(len(cases), 0, min(how.cases, len(cases)), setup.recipe.seed)]
            if cases
            else []
        )
        prompts, _ = split_by_length(
            setup.policy, chosen, setup.recipe.prompt, settings_of(setup).max_new_tokens
        )
        return cls(setup, prompts, setup.folder.evaluations())

    def due(self, number: int) -> bool:
        """Whether the policy is evaluated after this round: every few rounds, and after the last."""
        recipe = self.setup.recipe
        if not self.prompts:
            return False
        return number % recipe.evaluation.every == 0 or number == recipe.rounds

    def evaluate(self, number: int) -> dict[str, float]:
        """Evaluate after round `number`, and keep the policy if it is the best so far; returns metrics of the round."""
        setup, recipe = self.setup, self.setup.recipe
        which = setup.folder.watched
        setup.sampler.publish(setup.policy.model, number)
        evaluation = evaluate(
            setup.sampler,
            self.prompts,
            grammar=setup.grammar,
            settings=settings_of(setup),
            samples=recipe.evaluation.samples,
            knowledge=setup.book.knowledge,
            seed=recipe.seed,
            progress=lambda done, total: setup.progress.doing(
                f"evaluating: {done:,} of {total:,} {which} cases"
            ),
        )
        row = _row(number, evaluation)
        if self.best is None or _value(row, recipe.evaluation.best) > _value(
            self.best, recipe.evaluation.best
        ):
            self._keep(row)
        self.rows.append(row)
        setup.folder.append_evaluation(row)
        return {f"{PREFIX}{name}": row[name] for name in MEASURES if row[name] is not None}

    def _keep(self, row: MetricsRow) -> None:
        def write(folder: Any) -> None:
            save_policy(self.setup.policy, folder)
            write_json(folder / STATE, {"round": row["round"], "measure": self.setup.recipe.evaluation.best})

        self.setup.folder.checkpoints.save(BEST, write)

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best evaluation, the earliest of equals."""
        measure = self.setup.recipe.evaluation.best
        return max(self.rows, key=lambda row: (_value(row, measure), -row["round"]), default=None)

    @property
    def exhausted(self) -> bool:
        """Whether the last `evaluation.patience` evaluations have brought no better policy."""
        patience, best = self.setup.recipe.evaluation.patience, self.best
        return bool(patience) and best is not None and len(self.rows) - 1 - self.rows.index(best) >= patience

    def summary(self) -> str:
        """Held-out accuracy at the start, now, and of the best policy."""
        first, last, best = self.rows[0], self.rows[-1], self.best or self.rows[0]
        asked = f"{last['cases']:,} {self.setup.folder.watched} case{'s' * (last['cases'] != 1)}"
        text = f"Held-out accuracy ({asked}): {percent(first['accuracy'])} after round {first['round']}"
        if last is not first:
            text += f", {percent(last['accuracy'])} after round {last['round']}"
        return (
            f"{text}; best by {self.setup.recipe.evaluation.best} after round {best['round']}: "
            f"{percent(best['accuracy'])}, in {self.setup.folder.checkpoints.folder / BEST}"
        )


def settings_of(setup: Setup) -> SamplingSettings:
    """How held-out cases are sampled: as `grandrounds evaluate` does."""
    how, grpo = setup.recipe.evaluation, setup.recipe.grpo
    return SamplingSettings(
        max_new_tokens=how.max_new_tokens or grpo.max_new_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        top_k=how.top_k,
        min_p=how.min_p,
        stop=tuple(grpo.stop),
    )


def _row(number: int, evaluation: Evaluation) -> dict[str, Any]:
    shown = evaluation.to_json(cases=False)
    return {
        "round": number,
        "cases": evaluation.count,
        **{name: shown[name] for name in MEASURES},
        **{f"{name}_interval": shown[f"{name}_interval"] for name in MEASURES},
        "mean_length": evaluation.lengths.mean,
        "right": {case.id: case.share_correct for case in evaluation.cases},
    }


def _value(row: MetricsRow, measure: str) -> float:
    """A measure for comparison; below all others where it does not apply."""
    value = row[measure]
    return -1.0 if value is None else float(value)
