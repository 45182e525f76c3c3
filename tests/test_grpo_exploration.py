"""The adaptive entropy bonus, and updates by the most uncertain tokens alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from grpo_support import everything_in_double, plain_logprobs, ragged_groups, tiny_model, tiny_policy

from grandrounds.algorithm.exploration import EntropyBonus, EntropyTarget
from grandrounds.algorithm.grpo import LOSSES, clipped
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.loss import LossSettings, Totals
from grandrounds.algorithm.packing import Pack, packs

TARGET = EntropyTarget(entropy=2.0, step=0.1, most=0.25)


def test_the_weight_grows_below_the_target_shrinks_above_it_and_is_applied_only_below() -> None:
    bonus, seen = EntropyBonus(0.1, TARGET), []
    for entropy in (3.0, 2.0, 1.0, 1.0, 1.5, 2.5, 2.5, 2.5, 2.5, 1.0):
        seen.append((round(bonus.applied, 9), round(bonus.weight, 9)))
        bonus = bonus.after(entropy)
    assert seen == [
        (0.0, 0.1),  # nothing is known yet
        (0.0, 0.0),
        (0.1, 0.1),
        (0.2, 0.2),
        (0.25, 0.25),
        (0.25, 0.25),
        (0.0, 0.15),
        (0.0, 0.05),
        (0.0, 0.0),
        (0.0, 0.0),
    ]


def test_without_a_target_the_weight_stays() -> None:
    bonus = EntropyBonus(0.3)
    assert (bonus.applied, bonus.after(0.01)) == (0.3, bonus)


def round_of(seed: int, budget: int = 10_000) -> list[Pack]:
    groups = ragged_groups(seed)
    lengths = np.array([[len(c.tokens) for c in group.completions] for group in groups])
    total = int(lengths.sum())
    weights = LOSSES["dapo"].token_weights(
        lengths.ravel(), np.ones(lengths.size, bool), Totals(lengths.size, total, total, 1, 9)
    )
    advantages = np.random.default_rng(seed).normal(size=lengths.shape)
    return packs(
        groups,
        advantages,
        weights.reshape(lengths.shape),
        tokens_per_pack=budget,
        skip_zero_advantage=False,
        per_token=1 / total,
    )


@pytest.mark.parametrize("budget", [10_000, 20])
def test_only_the_most_uncertain_tokens_of_the_whole_update_count(budget: int) -> None:
    """Loss and bonus, against a plain computation of every sequence alone."""
    share, weight = 0.3, 0.7
    with everything_in_double():
        model = tiny_model("llama")
        settings = LearnerSettings(entropy_bonus=weight, clip_low=9, clip_high=9)
        learner = Learner(tiny_policy(model), settings, clipped)
        for pack in learner.most_uncertain(round_of(5, budget), share):
            learner.accumulate(pack)
        metrics = learner.step(0.0)
        groups, advantages = ragged_groups(5), np.random.default_rng(5).normal(size=(3, 3))
        rows = [
            (
                *plain_logprobs(
                    tiny_model("llama", attention="eager"), group.prompt.tokens, completion.tokens
                ),
                completion,
                float(advantage),
            )
            for group, of_group in zip(groups, advantages, strict=True)
            for completion, advantage in zip(group.completions, of_group, strict=True)
        ]
    entropies = torch.cat([entropy.detach() for _, entropy, _, _ in rows]).numpy()
    threshold = np.quantile(entropies, 1 - share)
    expected, count = 0.0, 0
    for logprobs, entropy, completion, advantage in rows:
        for t in range(len(completion.tokens)):
            if float(entropy[t].detach()) >= threshold:
                ratio = math.exp(float(logprobs[t].detach()) - float(completion.logprobs[t]))
                expected -= ratio * advantage / len(entropies)
                count += 1
    kept = [value for value in entropies if value >= threshold]
    expected -= weight * float(np.mean(kept))
    assert count == math.ceil(share * len(entropies))
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["counted_ratio"] == pytest.approx(count / len(entropies))
    assert metrics["entropy_counted"] == pytest.approx(float(np.mean(kept)), rel=1e-5)
    assert metrics["entropy"] == pytest.approx(float(np.mean(entropies)), rel=1e-5)


def test_the_kl_penalty_stays_on_every_token() -> None:
    model = tiny_model("llama")
    learner = Learner(tiny_policy(model), LearnerSettings(beta=0.5), clipped)
    parameter = next(iter(learner.parameters.values()))
    parameter.data.add_(0.1 * torch.randn(parameter.shape, dtype=parameter.dtype))
    kls = []
    for share in (1.0, 0.2):
        step = round_of(1) if share == 1 else learner.most_uncertain(round_of(1), share)
        for pack in step:
            learner.accumulate(pack)
        kls.append(learner.step(0.0)["kl"])
    assert kls[0] == pytest.approx(kls[1])
    assert kls[0] > 0


def test_an_adapted_bonus_is_restored_with_the_optimizer() -> None:
    settings = LearnerSettings(entropy_bonus=0.2, entropy_target=EntropyTarget(99.0, 0.05, 1.0))
    learner = Learner(tiny_policy(tiny_model("llama")), settings, clipped)
    for _ in range(2):
        for pack in round_of(2):
            learner.accumulate(pack)
        metrics = learner.step(1e-3)
    assert learner.bonus.weight == pytest.approx(0.3)
    assert metrics["entropy_bonus"] == pytest.approx(0.25)
    other = Learner(tiny_policy(tiny_model("llama")), settings, clipped)
    other.load_state_dict(learner.state_dict())
    assert other.bonus == learner.bonus


def test_the_bonus_raises_entropy() -> None:
    def entropy_after(weight: float) -> float:
        learner = Learner(tiny_policy(tiny_model("llama")), LearnerSettings(entropy_bonus=weight), clipped)
        for _ in range(5):
            for pack in round_of(3):
                learner.accumulate(pack)
            metrics = learner.step(1e-3)
        return metrics["entropy"]

    assert entropy_after(5.0) > entropy_after(0.0) + 1e-3
    assert LossSettings().entropy_bonus == 0.0
