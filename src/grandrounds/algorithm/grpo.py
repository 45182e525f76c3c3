"""GRPO on one page: Group Relative Policy Optimization (Shao et al. 2024, arXiv:2402.03300).

For each round of cases:

    1  group sampling     G completions of each case from the current policy
    2  reward scoring     every completion scored by the recipe's reward components
    3  group advantage    A = (r - mean of the group) / standard deviation of the group; no critic
    4  policy update      clipped objective on the completions' tokens, weighted by the advantage

Then the next round begins with the better policy (iterative refinement). What is left out, and why: the value model
(the group's mean is the baseline), per-token rewards (an answer is right or wrong as a whole), and old-policy forward
passes (the sampler returns each token's behaviour log-probability).

Shapes: N groups of G completions in a round; a completion has T tokens; a pack has C completion tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from grandrounds.algorithm import ranks
from grandrounds.algorithm.correction import Correction
from grandrounds.algorithm.cursor import Weights, take
from grandrounds.algorithm.decoupled import decoupled_advantages
from grandrounds.algorithm.learner import Learner
from grandrounds.algorithm.loss import Loss, LossInputs, LossSettings, Totals, penalised, ratios
from grandrounds.algorithm.packing import Pack, packs
from grandrounds.algorithm.schedule import learning_rate
from grandrounds.recipe import GrpoRecipe
from grandrounds.rewards import RewardSet
from grandrounds.rewards.logged import TrainerState
from grandrounds.rewards.reward_set import Scoring
from grandrounds.sampling.sampler import Sampler, SamplingSettings, in_order
from grandrounds.types import Case, Group, Prompt, Sample, ScoredGroup


@dataclass(frozen=True)
class Grpo:
    """Everything that the loop uses. `learner` updates the weights that `sampler` reads."""

    recipe: GrpoRecipe
    rounds: int
    seed: int
    cases: Sequence[Case]
    ask: Callable[[Sequence[Case]], list[Prompt]]
    sampler: Sampler
    read: Callable[[Group], tuple[Sample, ...]]  # parses completions and judges their answers
    rewards: RewardSet
    learner: Learner
    loss: Loss
    weights: Weights | None = None  # how often each case is drawn


@dataclass(frozen=True)
class Position:
    """The loop's position: all that a round depends on besides weights, optimizer state and recipe."""

    round: int = 0  # rounds done
    draws: int = 0  # cases drawn since round 1
    tokens: int = 0  # completion tokens sampled since round 1


@dataclass(frozen=True)
class Round:
    """A finished round: the groups that it learned from, the position after it, and the update's metrics."""

    groups: tuple[ScoredGroup, ...]  # N
    position: Position
    metrics: dict[str, float]


def run_rounds(grpo: Grpo, position: Position) -> Iterator[Round]:
    """Yields each round when it is done, from the one after `position` to the last."""
    while position.round < grpo.rounds:
        started = time.perf_counter()
        groups, position = collect(grpo, position)
        groups = compare(groups, grpo.recipe, grpo.rewards)
        sampled = time.perf_counter()
        metrics = update_policy(grpo, groups, position.round)
        times = {"sampling_time": sampled - started, "step_time": time.perf_counter() - started}
        yield Round(tuple(groups), position, {**metrics, **times})


# Steps 1 and 2: group sampling and reward scoring


def collect(grpo: Grpo, position: Position) -> tuple[list[ScoredGroup], Position]:
    """A round's scored groups [N], and the position after them.

    With dynamic sampling (DAPO, arXiv:2503.14476, section 3.2) groups without signal are replaced by groups of further
    cases, at most `grpo.dynamic_sampling` times. Groups that then still have no signal stay.
    """
    number, draws, tokens = position.round + 1, position.draws, position.tokens
    wanted = min(grpo.recipe.cases_per_round, len(grpo.cases))
    grpo.sampler.publish(grpo.learner.policy.model, position.round)
    kept: list[ScoredGroup] = []
    teaches = has_signal if grpo.recipe.aggregation == "sum_then_normalize" else any_component_differs
    for redraw in range(1 + grpo.recipe.dynamic_sampling):
        silent = [place for place, group in enumerate(kept) if not teaches(group)]
        count = len(silent) if redraw else wanted
        if count == 0:
            break
        groups = sample_and_score(grpo, number, draws, count)
        draws, tokens = (
            draws + count,
            tokens + sum(sample.length for group in groups for sample in group.samples),
        )
        if not redraw:
            kept = groups
        for place, group in zip(silent, filter(teaches, groups), strict=False):
            kept[place] = group
    return kept, Position(number, draws, tokens)


def sample_and_score(grpo: Grpo, number: int, draws: int, count: int) -> list[ScoredGroup]:
    """Groups of the next `count` cases, in order. Each group is scored while others are still being sampled."""
    recipe = grpo.recipe
    prompts = grpo.ask([grpo.cases[i] for i in take(len(grpo.cases), draws, count, grpo.seed, grpo.weights)])
    settings = SamplingSettings(
        recipe.max_new_tokens, temperature=recipe.temperature, stop=tuple(recipe.stop)
    )
    scoring = Scoring(grpo.rewards, TrainerState(number, grpo.rounds, draws / len(grpo.cases)))
    # `draws` is part of the key: a case drawn twice in one round is sampled differently.
    for group in grpo.sampler.sample(prompts, recipe.group_size, settings, (grpo.seed, number, draws)):
        scoring.add(grpo.read(group))
    return in_order(prompts, scoring.results())


def has_signal(group: ScoredGroup) -> bool:
    """Whether rewards differ within the group. Equal rewards teach nothing."""
    return bool((group.rewards != group.rewards[0]).any())


def any_component_differs(group: ScoredGroup) -> bool:
    """Whether a component's scores differ within the group: signal where components are compared one by one."""
    return any(score != scores[0] for scores in group.scores.values() for score in scores)


# Step 3: group advantage

# Added to standard deviations, which divide by G - 1; as in TRL and verl.
EPSILON = 1e-4


def compare(groups: Sequence[ScoredGroup], recipe: GrpoRecipe, rewards: RewardSet) -> list[ScoredGroup]:
    """The groups with their advantages: of the rewards, or of each component by itself (GDPO, `decoupled`)."""
    if recipe.aggregation == "normalize_then_sum":
        scores = [[group.scores[name] for group in groups] for name in rewards.parts]  # K × N × G
        weights = [part.weight for part in rewards.parts.values()]
        made = decoupled_advantages(np.array(scores, np.float64), weights, EPSILON)
    else:
        summed = np.stack([group.rewards for group in groups])
        made = advantages(summed, scale=recipe.advantage_scale, baseline=recipe.baseline)
    return [group.with_advantages(row) for group, row in zip(groups, made, strict=True)]


def advantages(
    rewards: np.ndarray,  # [N, G]
    *,
    scale: Literal["group", "batch", "none"] = "group",
    baseline: Literal["mean", "leave_one_out"] = "mean",
) -> np.ndarray:
    """How much better each completion is than its siblings, float64 [N, G]: A_ij = (r_ij - b_ij) / s_i.

    baseline b:
        mean            mean of the group                     GRPO, arXiv:2402.03300, section 4.1.2
        leave_one_out   mean of the other G - 1 completions   RLOO, arXiv:2402.14740: r_ij is not in its own baseline
    scale s:
        group           standard deviation of the group       GRPO
        batch           standard deviation of all rewards     REINFORCE++, arXiv:2501.03262
        none            1                                     Dr. GRPO, arXiv:2503.20783

    Scaling by the group's deviation favours cases that are nearly always or nearly never solved; the other two scales
    do not. A group of equal rewards gets exactly 0: it carries no signal.
    """
    rewards = np.asarray(rewards, np.float64)
    size = rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdims=True)
    if baseline == "leave_one_out":
        centred *= size / (size - 1)
    if scale == "group":
        centred /= rewards.std(1, ddof=1, keepdims=True) + EPSILON
    elif scale == "batch":
        centred /= rewards.std(ddof=1) + EPSILON
    # The mean of equal numbers may differ from them in the last bit. Divided by 1e-4, that would become a signal.
    centred[(rewards == rewards[:, :1]).all(1)] = 0.0
    return centred


# Step 4: policy update


def clipped(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """GRPO's clipped objective with the KL penalty: Σ w ℓ over tokens, arXiv:2402.03300 eq. 3 and 4.

    ratio        ρ = π(token) / π_behaviour(token), or of the whole completion (GSPO, arXiv:2507.18071)
    token loss   ℓ = -min(ρ A, clip(ρ, 1 - clip_low, 1 + clip_high) A) + β k3
    k3           π_ref/π - log(π_ref/π) - 1 ≥ 0, an unbiased estimate of KL(π || π_ref)

    The two clip bounds: arXiv:2503.14476, section 3.1. delta, where it is set, bounds the first ρ from above, so that a
    token that has become much likelier is pushed down no more than so much (INTELLECT-2, arXiv:2505.07291).
    """
    ratio = ratios(inputs, settings)
    bounded = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    free = ratio if settings.delta is None else ratio.clamp(max=settings.delta)
    token_loss = -torch.minimum(free * inputs.advantages, bounded * inputs.advantages)
    return penalised(token_loss, ratio, inputs, settings)


def per_completion(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """Mean over completions of each completion's mean over its tokens: 1 / (N G T). GRPO, arXiv:2402.03300 eq. 3."""
    return 1.0 / (totals.completions * lengths)


def per_step_token(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """Mean over the step's active tokens: TRL's `bnpo`, with the optimizer step as the batch."""
    return np.full(len(lengths), 1.0 / max(1, totals.active_tokens))


def per_round_token(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """Every active token of the round has the same weight, in whichever step it is. DAPO, arXiv:2503.14476.

    With one step per pass it equals `per_step_token`. With several, steps that hold more tokens move the policy more;
    the mean over the steps of a pass is the round's token mean.
    """
    return np.full(len(lengths), totals.steps_per_pass / max(1, totals.round_active_tokens))


def per_longest(lengths: np.ndarray, totals: Totals) -> np.ndarray:
    """A constant that does not depend on lengths: 1 / (N G max_new_tokens). Dr. GRPO, arXiv:2503.20783, section 3.2."""
    return np.full(len(lengths), 1.0 / (totals.completions * totals.max_new_tokens))


# The clipped objective in its four averages; the others are in `losses`. Your own: FILE.py:NAME in the recipe.
LOSSES: dict[str, Loss] = {
    "grpo": Loss(clipped, per_completion),
    "bnpo": Loss(clipped, per_step_token),
    "dapo": Loss(clipped, per_round_token),
    "dr_grpo": Loss(clipped, per_longest),
}


def update_policy(grpo: Grpo, groups: Sequence[ScoredGroup], number: int) -> dict[str, float]:
    """`grpo.iterations` passes over the round's groups, each in `grpo.minibatches` optimizer steps.

    Before the first step sampler and learner hold the same weights, so every ratio must be 1. Raises RunError where one
    is not. Returns the mean of the steps' metrics; `sampling/ratio_error` and `sampling/logprob_difference` are
    those of the first step, `learning_rate` is that of the last.
    """
    recipe, learner = grpo.recipe, grpo.learner
    steps = [ranks.share(step) for step in steps_of_a_pass(grpo, groups)]
    if recipe.correction != "none":
        correction = Correction(recipe.correction, recipe.correction_high, recipe.correction_low)
        steps = [[learner.corrected(pack, correction) for pack in step] for step in steps]
    if recipe.beta:
        # The reference does not change, so its log-probs serve every pass.
        steps = [[learner.with_reference(pack) for pack in step] for step in steps]
    rows: list[dict[str, float]] = []
    passes = steps * recipe.iterations
    for done, step in enumerate(passes):
        if recipe.top_entropy < 1:
            step = learner.most_uncertain(step, recipe.top_entropy)
        for pack in step:
            learner.accumulate(pack)
        if not rows:
            learner.require_on_policy(where=f"round {number}")
        rows.append(learner.step(learning_rate(recipe, number, grpo.rounds, done / len(passes))))
    # A step without packs has fewer metrics.
    names = {name: None for row in rows for name in row}
    metrics = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    first = {name: rows[0].get(name, 0.0) for name in ("sampling/ratio_error", "sampling/logprob_difference")}
    return {**metrics, **first, "learning_rate": rows[-1]["learning_rate"]}


def steps_of_a_pass(grpo: Grpo, groups: Sequence[ScoredGroup]) -> list[list[Pack]]:
    """The packs of each optimizer step. Weights are normalised over the whole step, or round, before it is split."""
    recipe = grpo.recipe
    lengths = np.array([[sample.length for sample in group.samples] for group in groups])  # [N, G]
    cut_off = np.array([[sample.finish == "length" for sample in group.samples] for group in groups])
    active = ~cut_off if recipe.mask_truncated else np.ones_like(cut_off)
    parts = np.array_split(np.arange(len(groups)), min(recipe.minibatches, len(groups)))
    steps = []
    for part in parts:
        totals = Totals(
            completions=lengths[part].size,
            active_tokens=int((lengths * active)[part].sum()),
            round_active_tokens=int((lengths * active).sum()),
            steps_per_pass=len(parts),
            max_new_tokens=recipe.max_new_tokens,
        )
        weights = grpo.loss.token_weights(lengths[part].ravel(), active[part].ravel(), totals)
        steps.append(
            packs(
                [groups[i].group for i in part],
                [groups[i].advantages for i in part],
                weights.reshape(len(part), -1),
                tokens_per_pack=recipe.tokens_per_pack,
                temperature=recipe.temperature,
                skip_zero_advantage=not needs_every_completion(recipe),
                per_token=1.0 / max(1, totals.active_tokens),
                merge=grpo.learner.policy.kernels.shared_prefix,
                device=grpo.learner.policy.device,
            )
        )
    return steps


def needs_every_completion(recipe: GrpoRecipe) -> bool:
    """Whether completions without advantage matter: they have a KL, an entropy, or a place among the entropies."""
    return bool(recipe.beta or recipe.entropy_bonus or recipe.entropy_target or recipe.top_entropy < 1)
