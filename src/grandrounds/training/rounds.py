"""GRPO on one page: Group Relative Policy Optimization (Shao et al. 2024, arXiv:2402.03300).

For each round of cases:

    1  group sampling     G completions of each case from the current policy
    2  reward scoring     every completion judged by the recipe's reward components
    3  group advantage    A = (r - mean of the group) / standard deviation of the group; no critic
    4  policy update      clipped objective on the completions' tokens, weighted by the advantage

and again with the better policy (iterative refinement). What is left out, and why: the value model (the group's
mean is the baseline), per-token rewards (an answer is right or wrong as a whole), and old-policy forward passes
(the sampler returns each token's behaviour log-probability).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from grandrounds.grpo.advantage import advantages, without_signal
from grandrounds.grpo.loss import Totals, token_weights
from grandrounds.grpo.packing import packs
from grandrounds.rewards import Attempt, Scores
from grandrounds.sampling.prompts import make_prompts
from grandrounds.sampling.rollout import Group, SamplingSettings
from grandrounds.training.cursor import take
from grandrounds.training.guard import Guard
from grandrounds.training.interrupt import Interrupt
from grandrounds.training.metrics import round_metrics
from grandrounds.training.saving import Position, save_checkpoint
from grandrounds.training.setup import Setup
from grandrounds.types import Case


@dataclass(frozen=True)
class Batch:
    """One round's groups, scored. N groups of G completions, flattened group by group where a list has N * G."""

    groups: tuple[Group, ...]  # N
    attempts: tuple[Attempt, ...]  # N * G
    scores: Scores  # lists of N * G
    tokens: int  # sampled for it, those of replaced groups too

    @property
    def rewards(self) -> np.ndarray:
        """float64 [N, G]."""
        return np.asarray(self.scores.rewards, dtype=np.float64).reshape(len(self.groups), -1)


def run_rounds(setup: Setup, position: Position, interrupt: Interrupt) -> Position:
    """Rounds from the one after `position` to the recipe's last; returns where it stopped."""
    recipe, guard = setup.recipe, Guard(setup.recipe.guard, setup.folder.metrics())
    while position.round < recipe.rounds and not interrupt.requested:
        started, number = time.perf_counter(), position.round + 1
        batch, draws = collect(setup, number, position.draws)
        group_advantages = advantages(
            batch.rewards, scale=recipe.grpo.advantage_scale, baseline=recipe.grpo.baseline
        )
        sampled = time.perf_counter()
        update = update_policy(setup, batch.groups, group_advantages, number)

        position = Position(round=number, draws=draws, tokens=position.tokens + batch.tokens)
        times = {"sampling_time": sampled - started, "step_time": time.perf_counter() - started}
        row = round_metrics(batch.attempts, batch.scores, batch.rewards, position, {**update, **times})
        setup.folder.write_rollouts(number, batch.groups, batch.attempts, batch.scores, group_advantages)
        setup.folder.append_metrics(row)
        setup.progress.round(row)
        guard.check(row)
        if number % recipe.checkpoint.every == 0 or number == recipe.rounds or interrupt.requested:
            save_checkpoint(setup, position)
    return position


def collect(setup: Setup, number: int, draws: int) -> tuple[Batch, int]:
    """Steps 1 and 2: a scored batch of groups, and how many cases have been drawn since the run began.

    With dynamic sampling (DAPO, arXiv:2503.14476, section 3.2) groups without signal are replaced by groups of
    further cases, at most `grpo.dynamic_sampling` times; what then still has no signal stays.
    """
    grpo = setup.recipe.grpo
    wanted = min(grpo.cases_per_round, len(setup.book.train))
    batch, draws = _sample_and_score(setup, number, draws, wanted)
    for _ in range(grpo.dynamic_sampling):
        silent = np.flatnonzero(without_signal(batch.rewards))
        if len(silent) == 0:
            break
        further, draws = _sample_and_score(setup, number, draws, len(silent))
        telling = np.flatnonzero(~without_signal(further.rewards))
        batch = _with_groups_replaced(batch, silent[: len(telling)], further, telling)
    return batch, draws


def _sample_and_score(setup: Setup, number: int, draws: int, count: int) -> tuple[Batch, int]:
    recipe = setup.recipe
    cases: list[Case] = [setup.book.train[i] for i in take(len(setup.book.train), draws, count, recipe.seed)]
    prompts = make_prompts(setup.policy, cases, recipe.prompt, recipe.grpo.max_new_tokens)
    grpo = recipe.grpo
    settings = SamplingSettings(grpo.max_new_tokens, temperature=grpo.temperature, stop=tuple(grpo.stop))
    # `draws` is part of the key: a case drawn twice in one round is sampled anew.
    groups = setup.sampler.sample(prompts, recipe.grpo.group_size, settings, (recipe.seed, number, draws))
    attempts = tuple(
        setup.attempt(group.prompt, completion) for group in groups for completion in group.completions
    )
    tokens = sum(attempt.length for attempt in attempts)
    return Batch(tuple(groups), attempts, setup.rewards.score(attempts), tokens), draws + count


def _with_groups_replaced(batch: Batch, places: np.ndarray, other: Batch, chosen: np.ndarray) -> Batch:
    """`batch` with the groups at `places` replaced by the `chosen` ones of `other`."""
    size = len(batch.groups[0].completions)
    groups, attempts = list(batch.groups), list(batch.attempts)
    scores = replace(
        batch.scores,
        components={name: list(values) for name, values in batch.scores.components.items()},
        rewards=list(batch.scores.rewards),
        notes=list(batch.scores.notes),
    )
    for place, choice in zip(places, chosen, strict=False):
        here, there = slice(place * size, (place + 1) * size), slice(choice * size, (choice + 1) * size)
        groups[place] = other.groups[choice]
        attempts[here] = other.attempts[there]
        scores.rewards[here] = other.scores.rewards[there]
        scores.notes[here] = other.scores.notes[there]
        for name, values in scores.components.items():
            values[here] = other.scores.components[name][there]
    return Batch(tuple(groups), tuple(attempts), scores, batch.tokens + other.tokens)


def update_policy(
    setup: Setup,
    groups: tuple[Group, ...],
    group_advantages: np.ndarray,  # [N, G]
    number: int,
) -> dict[str, float]:
    """Step 4: `grpo.iterations` passes over the round's groups, each in `grpo.minibatches` optimizer steps.

    Before the first step sampler and learner hold the same weights, so every ratio must be 1; RunError where one is
    not. Returns the metrics of the steps, averaged; `sampling/ratio_error` is that of the first step.
    """
    grpo = setup.recipe.grpo
    lengths = np.array([[len(c.tokens) for c in group.completions] for group in groups])  # [N, G]
    cut_off = np.array([[c.finish == "length" for c in group.completions] for group in groups])
    active = ~cut_off if grpo.mask_truncated else np.ones_like(cut_off)
    parts = np.array_split(np.arange(len(groups)), min(grpo.minibatches, len(groups)))
    step_packs = []
    for part in parts:
        totals = Totals(
            completions=lengths[part].size,
            active_tokens=int((lengths * active)[part].sum()),
            round_active_tokens=int((lengths * active).sum()),
            steps_per_pass=len(parts),
            max_new_tokens=grpo.max_new_tokens,
        )
        weights = token_weights(grpo.loss, lengths[part].ravel(), active[part].ravel(), totals)
        step_packs.append(
            packs(
                [groups[i] for i in part],
                group_advantages[part],
                weights.reshape(len(part), -1),
                tokens_per_pack=grpo.tokens_per_pack,
                temperature=grpo.temperature,
                skip_zero_advantage=grpo.beta == 0,
                device=setup.policy.device,
            )
        )
    if grpo.beta:
        # The reference does not move: its log-probs serve every pass.
        step_packs = [[setup.learner.with_reference(pack) for pack in part] for part in step_packs]
    rows: list[dict[str, float]] = []
    for _ in range(grpo.iterations):
        for part_packs in step_packs:
            for pack in part_packs:
                setup.learner.accumulate(pack)
            if not rows:
                setup.learner.require_on_policy(where=f"round {number}")
            rows.append(setup.learner.step(learning_rate(setup, number)))
    return _mean_of_steps(rows)


def _mean_of_steps(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the steps that have it; steps without any pack have few."""
    names = {name: None for row in rows for name in row}
    metrics = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    metrics["sampling/ratio_error"] = rows[0].get("sampling/ratio_error", 0.0)
    return metrics


def learning_rate(setup: Setup, number: int) -> float:
    """The learning rate of round `number` (from 1): linear warm-up, then constant or decayed to a tenth."""
    grpo, rounds = setup.recipe.grpo, setup.recipe.rounds
    if number <= grpo.warmup_rounds:
        return grpo.learning_rate * number / grpo.warmup_rounds
    done = (number - grpo.warmup_rounds) / max(1, rounds - grpo.warmup_rounds)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + np.cos(np.pi * done))}[grpo.schedule]
    return float(grpo.learning_rate * (0.1 + 0.9 * left))
