"""The monitor: reads each round, looks for every sign, and decides what the recipe wants done.

monitor.jsonl has a row for each round:

    round      its number
    readings   name -> [mean over the round's groups, standard error, groups]
    findings   what stands after it: sign, what is seen, cause, hint, numbers
    said       the signs among them that are new, and were told the user

All of it follows from the rows before and from the round: a resumed run finds and says what an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grandrounds.algorithm.grpo import Round
from grandrounds.errors import RewardError
from grandrounds.recipe_guard import GuardAction
from grandrounds.rewards.components import UserComponent
from grandrounds.rewards.logged import Logged, TrainerState
from grandrounds.training.held_out import BEST, HeldOut
from grandrounds.training.monitor.history import WINDOW, History
from grandrounds.training.monitor.readings import Reading, features, from_json, read_round, to_json
from grandrounds.training.monitor.sign import Finding, Watched
from grandrounds.training.monitor.signs import SIGNS
from grandrounds.training.progress import MetricsRow
from grandrounds.training.setup import Setup
from grandrounds.types import Sample

# From the mildest to the strictest.
ACTIONS: tuple[GuardAction, ...] = ("ignore", "warn", "pause", "roll_back")


@dataclass(frozen=True)
class Alarm:
    """What is new after a round, and the strictest action that the recipe wants for it."""

    findings: tuple[Finding, ...]
    action: GuardAction

    @property
    def names(self) -> str:
        return ", ".join(finding.sign for finding in self.findings)


@dataclass
class Monitor:
    """Watches a run's rounds. `rows` are those of monitor.jsonl."""

    setup: Setup
    held_out: HeldOut
    metrics: list[MetricsRow]
    rows: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Reading]] = field(default_factory=list)

    @classmethod
    def of(cls, setup: Setup, held_out: HeldOut) -> Monitor:
        """With what the run has shown so far."""
        rows = setup.folder.monitor()
        return cls(
            setup, held_out, list(setup.folder.metrics()), rows, [from_json(row["readings"]) for row in rows]
        )

    def check(self, done: Round, metrics: MetricsRow, *, evaluated: bool) -> Alarm | None:
        """Add a round and write its row. Returns what is new, None where nothing is.

        evaluated: whether held-out cases were evaluated after this round.
        """
        setup = self.setup
        if not setup.recipe.guard.enabled:
            return None
        self.metrics.append(metrics)
        self.readings.append(read_round(done.groups, setup.grammar, setup.book.knowledge))
        findings = self._findings(self._watched(done), evaluated)
        standing = {one["sign"] for row in self.rows[-WINDOW:] for one in row["findings"]}
        new = tuple(one for one in findings if one.sign not in standing)
        row = {
            "round": done.position.round,
            "readings": to_json(self.readings[-1]),
            "findings": [one.to_json() for one in findings],
            "said": [one.sign for one in new],
        }
        self.rows.append(row)
        setup.folder.append_monitor(row)
        return Alarm(new, max((self._action(one.sign) for one in new), key=ACTIONS.index)) if new else None

    @property
    def may_roll_back(self) -> bool:
        """Whether a sign could take the run back, so that the best checkpoint must be one to resume from."""
        guard = self.setup.recipe.guard
        return guard.enabled and "roll_back" in {guard.action, *guard.signs.values()}

    def _findings(self, watched: Watched, evaluated: bool) -> list[Finding]:
        """What stands now, in the order of the signs. A sign that waits for an evaluation stands as it stood."""
        last = {one["sign"]: Finding(**one) for one in (self.rows[-1]["findings"] if self.rows else [])}
        found = [
            sign.find(watched) if evaluated or not sign.evaluated else last.get(name)
            for name, sign in SIGNS.items()
            if self._action(name) != "ignore"
        ]
        return [one for one in found if one is not None]

    def _action(self, sign: str) -> GuardAction:
        guard = self.setup.recipe.guard
        return next((action for name, action in guard.signs.items() if name == sign), guard.action)

    def _watched(self, done: Round) -> Watched:
        setup = self.setup
        best = ""
        if self.held_out.rows:
            best = f"{setup.folder.checkpoints.folder / BEST} has the best policy by {setup.recipe.evaluation.best}"
        return Watched(
            recipe=setup.recipe,
            history=History(self.readings, self.metrics, self.held_out.rows),
            groups=done.groups,
            weights={name: part.weight for name, part in setup.rewards.parts.items()},
            features=features(setup.grammar, setup.book.knowledge),
            scored=self._scored,
            precision=setup.policy.precision,
            best=best,
        )

    def _scored(self, name: str, samples: Sequence[Sample]) -> Sequence[float | None]:
        """What a user's function gives these samples; nothing where it cannot score them."""
        component = self.setup.rewards.parts[name].component
        if not isinstance(component, UserComponent):
            return ()  # ours read `sample.response`
        try:
            further = Logged(len(samples)).arguments(TrainerState())
            return [score.value for score in component.scores(samples, further)]
        except RewardError:
            return ()


def good_round(rounds: Sequence[int], evaluations: Sequence[MetricsRow], measure: str, alarm: int) -> int:
    """The round to go back to, of those with a checkpoint: the best evaluated one (`HeldOut.best`), else the newest.

    It lies at least a window before the alarm, since the change is measured over so many rounds. The cold start (0) is
    always among them.
    """
    before = [number for number in rounds if number <= max(0, alarm - WINDOW)]
    values = {row["round"]: row[measure] for row in evaluations if row[measure] is not None}
    evaluated = [number for number in before if number in values]
    if evaluated:
        return max(evaluated, key=lambda number: (values[number], -number))
    return max(before, default=0)
