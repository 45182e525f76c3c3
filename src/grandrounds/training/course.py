"""How far a run is over its warm-up and its rounds, with the evaluations between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grandrounds.recipe import Recipe
from grandrounds.training.whole import Timed, Whole

WARMUP, ROUNDS = "warm-up", "rounds"
# A completion that is only sampled counts as half of one that is learned from, too.
SAMPLED = 0.5


@dataclass(frozen=True)
class Part:
    """Which stages of a whole a run's warm-up and rounds are: WARMUP, ROUNDS -> stage."""

    whole: Whole
    stages: Mapping[str, str]


class Course:
    """How far a run is: its steps and rounds as a part of a whole, or as the whole themselves."""

    def __init__(self, recipe: Recipe, part: Part | None = None) -> None:
        self.recipe = recipe
        work = {WARMUP: recipe.sft.steps * float(recipe.sft.batch_cases), ROUNDS: self._work(recipe.rounds)}
        if part is None:
            own = {name: amount for name, amount in work.items() if amount}
            part = Part(Whole(own), {name: name for name in own})
        self.whole, self._stages = part.whole, part.stages

    def begin(self, step: int, rounds: int, timed: Mapping[str, Timed] | None = None) -> None:
        """The run begins after so many steps and rounds. timed: what earlier commands told as `timed`."""
        known = {self._stages[name]: pair for name, pair in (timed or {}).items() if name in self._stages}
        self.whole.remember(known)
        stage, share = (ROUNDS, self._share(rounds)) if rounds else (WARMUP, self._stepped(step))
        if stage in self._stages:
            self.whole.skip(self._stages[stage], share)

    @property
    def timed(self) -> dict[str, Timed]:
        """WARMUP, ROUNDS -> work that was timed so far, and its seconds."""
        timed = self.whole.timed
        return {name: timed[stage] for name, stage in self._stages.items() if stage in timed}

    def step(self, done: int) -> None:
        """So many steps of the warm-up are done."""
        self.whole.reach(self._stages[WARMUP], self._stepped(done))

    def round(self, done: int) -> None:
        """So many rounds are done."""
        self.whole.reach(self._stages[ROUNDS], self._share(done))

    def _stepped(self, done: int) -> float:
        return done / self.recipe.sft.steps if self.recipe.sft.steps else 0.0

    def _share(self, done: int) -> float:
        return self._work(done) / self._work(self.recipe.rounds) if self.recipe.rounds else 0.0

    def _work(self, rounds: int) -> float:
        """The completions of so many rounds and their evaluations. To sample one and learn from it takes about as long
        as to learn from a demonstration: 0.7 and 1.4 times as long in the two demos."""
        grpo, how = self.recipe.grpo, self.recipe.evaluation
        evaluations = 0
        if how.every and rounds:
            last = rounds == self.recipe.rounds and rounds % how.every > 0
            evaluations = 1 + rounds // how.every + last  # the first comes before the first round
        answers = evaluations * how.cases * how.samples
        return rounds * grpo.cases_per_round * grpo.group_size + SAMPLED * answers
