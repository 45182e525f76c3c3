"""The PPO that GRPO is compared with: advantages, value loss and critic against plain computations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from grpo_support import (
    agreeing_groups,
    everything_in_double,
    gradients,
    ragged_groups,
    tiny_model,
    tiny_policy,
    worst_relative_difference,
)
from safetensors.torch import load_file, save_file

from bench.passes import counted
from bench.ppo import Critic, gae, judge, numbered, rewards_in, value_loss, whitened
from bench.ppo_table import cost_to
from grandrounds.algorithm.grpo import LOSSES, advantages
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.packing import Pack, packs
from grandrounds.recipe import GrpoRecipe
from grandrounds.types import Group, ScoredGroup


def scored(group: Group, rewards: np.ndarray) -> ScoredGroup:
    """A group with rewards; of its samples only their number is asked."""
    return ScoredGroup(tuple(SimpleNamespace() for _ in group.completions), {}, rewards, ())  # type: ignore[arg-type]


def packed(groups: list[Group], given: Any, budget: int = 40) -> list[Pack]:
    weights = np.ones((len(groups), len(groups[0].completions)))
    return packs(groups, given, weights, tokens_per_pack=budget, skip_zero_advantage=False)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("size", [1, 2, 17])
def test_gae_is_the_sum_of_discounted_differences(size: int, lam: float) -> None:
    noise = np.random.default_rng(size)
    values, reward = noise.normal(size=size), 1.7
    after = [*values[1:], 0.0]
    rewards = [0.0] * (size - 1) + [reward]
    differences = [rewards[t] + after[t] - values[t] for t in range(size)]
    expected = [sum(lam**k * differences[t + k] for k in range(size - t)) for t in range(size)]
    np.testing.assert_allclose(gae(values, reward, lam), expected, rtol=1e-12)


def test_with_lambda_1_an_advantage_is_reward_minus_value() -> None:
    values = np.random.default_rng(0).normal(size=30)
    np.testing.assert_allclose(gae(values, 2.5, 1.0), 2.5 - values, rtol=1e-12)


def test_whitened_advantages_have_mean_0_and_deviation_1_over_all_tokens() -> None:
    noise = np.random.default_rng(1)
    made = np.concatenate(whitened([noise.normal(3, 5, 40), noise.normal(-1, 2, 7)]))
    assert abs(made.mean()) < 1e-12
    assert made.std() == pytest.approx(1)


def test_the_value_loss_is_the_larger_of_two_squares() -> None:
    noise = np.random.default_rng(2)
    values, old, returns = noise.normal(size=(3, 50))
    expected = 0.0
    for v, o, r in zip(values, old, returns, strict=True):
        near = min(max(v, o - 0.3), o + 0.3)
        expected += 0.5 * max((v - r) ** 2, (near - r) ** 2)
    made = value_loss(*(torch.from_numpy(array) for array in (values, old, returns)), clip=0.3)
    assert float(made) == pytest.approx(expected, rel=1e-12)


def test_a_value_that_has_moved_far_enough_to_its_return_has_no_gradient() -> None:
    values = torch.tensor([0.6, 0.2, -0.6], dtype=torch.float64, requires_grad=True)
    value_loss(values, torch.zeros(3), torch.ones(3), clip=0.5).backward()
    assert values.grad is not None
    # The first has moved 0.6 towards its return 1; the second 0.2; the third away from it.
    np.testing.assert_allclose(values.grad.numpy(), [0.0, -0.8, -1.6])


def test_a_critic_that_says_the_groups_mean_makes_grpos_gradient() -> None:
    """With λ = 1 PPO's advantages are then r - mean, GRPO's without division, token by token and exactly."""
    groups = ragged_groups(3)
    rewards = np.random.default_rng(3).normal(size=(3, 3))
    group_wise = advantages(rewards, scale="none")
    token_wise = [
        [
            gae(np.full(len(c.tokens), mean), reward, 1.0)
            for c, reward in zip(group.completions, row, strict=True)
        ]
        for group, row, mean in zip(groups, rewards, rewards.mean(1), strict=True)
    ]
    for row, per_token in zip(group_wise, token_wise, strict=True):
        for one, tokens in zip(row, per_token, strict=True):
            np.testing.assert_array_equal(tokens, np.full(len(tokens), one))
    learner = Learner(tiny_policy(tiny_model("qwen2")), LearnerSettings(), LOSSES["dapo"].objective)
    found = []
    for given in (group_wise, token_wise):
        for pack in packed(groups, given):
            learner.accumulate(pack)
        found.append(gradients(learner.policy.model))
    assert worst_relative_difference(*found) < 1e-12


def test_packs_of_numbered_groups_find_every_completions_reward() -> None:
    groups = ragged_groups(4, groups=4, size=3)
    rewards = np.arange(12.0).reshape(4, 3) * 0.0
    rewards[2, 1], rewards[0, 2] = 5.0, 7.0
    made, by_number = numbered([scored(group, row) for group, row in zip(groups, rewards, strict=True)])
    expected = {
        (tuple(c.tokens), float(reward))
        for group, row in zip(groups, rewards, strict=True)
        for c, reward in zip(group.completions, row, strict=True)
    }
    found = set()
    for pack in packed(groups, [group.advantages for group in made]):
        parts = np.split(pack.targets.numpy(), pack.offsets[1:-1])
        found |= {(tuple(t), float(r)) for t, r in zip(parts, rewards_in(pack, by_number), strict=True)}
    assert found == expected


@pytest.mark.parametrize("make", [ragged_groups, agreeing_groups])
def test_the_critics_values_are_those_of_completions_alone(make: Any) -> None:
    groups = [group for group in make(5) if all(len(c.tokens) for c in group.completions)]
    policy = tiny_policy(tiny_model("qwen2"))
    critic = Critic(policy, GrpoRecipe(), expected=0.25)
    with everything_in_double(), torch.no_grad():
        for pack in packed(groups, np.ones((len(groups), len(groups[0].completions)))):
            assert float((critic(pack) - 0.25).abs().max()) < 1e-12  # a new head is a constant
        critic.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        plain = tiny_model("qwen2", attention="eager")
        expected = {}
        for group in groups:
            for completion in group.completions:
                tokens = torch.from_numpy(np.concatenate([group.prompt.tokens, completion.tokens]))[None]
                states = plain.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state[0]
                before = states[len(group.prompt.tokens) - 1 : -1]
                expected[len(group.prompt.tokens), tuple(completion.tokens)] = critic.head(before)[:, 0]
        seen = 0
        for pack in packed(groups, np.ones((len(groups), len(groups[0].completions)))):
            values = np.split(critic(pack).numpy(), pack.offsets[1:-1])
            for tokens, value in zip(np.split(pack.targets.numpy(), pack.offsets[1:-1]), values, strict=True):
                known = [wanted for (_, key), wanted in expected.items() if key == tuple(tokens)]
                assert any(np.allclose(value, wanted.numpy(), atol=1e-9) for wanted in known)
                seen += 1
        assert seen == sum(len(group.completions) for group in groups)


def test_a_judged_packs_return_is_its_value_and_plain_advantage() -> None:
    (pack,) = packed(ragged_groups(6), np.ones((3, 3)), budget=1000)
    noise = np.random.default_rng(6)
    values, rewards = torch.from_numpy(noise.normal(size=len(pack.targets))), noise.normal(size=9)
    (one,) = judge([pack], [values], [rewards], lam=1.0)
    np.testing.assert_allclose(one.returns, np.repeat(rewards, pack.lengths), rtol=1e-9)
    plain = np.repeat(rewards, pack.lengths) - values.numpy()
    np.testing.assert_allclose(
        one.pack.advantages, (plain - plain.mean()) / plain.std(), rtol=1e-4, atol=1e-6
    )


def test_critics_steps_lower_the_value_loss() -> None:
    (pack,) = packed(ragged_groups(7), np.ones((3, 3)), budget=1000)
    critic = Critic(tiny_policy(tiny_model("qwen2")), GrpoRecipe())
    returns = torch.from_numpy(np.repeat(np.random.default_rng(7).normal(size=9), pack.lengths))
    losses = []
    for _ in range(8):
        loss = value_loss(critic(pack), torch.zeros_like(returns), returns, clip=10.0)
        losses.append(loss.item())
        loss.backward()
        critic.step(1e-2)
    assert losses[-1] < losses[0] / 2


def test_a_restored_critic_goes_on_as_the_one_that_was_saved(tmp_path: Path) -> None:
    (pack,) = packed(ragged_groups(9), np.ones((3, 3)), budget=1000)
    returns = torch.from_numpy(np.repeat(np.arange(9.0), pack.lengths))

    def learn(critic: Critic) -> None:
        value_loss(critic(pack), torch.zeros_like(returns), returns, clip=100.0).backward()
        critic.step(1e-2)

    whole = Critic(tiny_policy(tiny_model("qwen2")), GrpoRecipe())
    learn(whole)
    save_file(whole.saved(), tmp_path / "critic.safetensors")
    begun = Critic(tiny_policy(tiny_model("qwen2", seed=1)), GrpoRecipe())
    learn(begun)
    begun.restore(load_file(tmp_path / "critic.safetensors"))
    for critic in (whole, begun):
        learn(critic)
    with torch.no_grad():
        assert torch.equal(whole(pack), begun(pack))


def test_tokens_are_counted_forward_and_backward() -> None:
    policy = tiny_policy(tiny_model("qwen2"))
    (pack,) = packed(ragged_groups(8), np.ones((3, 3)), budget=1000)
    critic = Critic(policy, GrpoRecipe())
    with counted(critic.body) as passes:
        critic(pack)
        with torch.no_grad():
            critic(pack)
    size = pack.tree.size
    assert (passes.forward, passes.backward, passes.operations) == (2 * size, size, 4 * size)
    critic(pack)
    assert passes.forward == 2 * size


def test_the_cost_to_a_level_is_that_of_the_first_evaluation_that_shows_it() -> None:
    result = {
        "rows": [{"cost": 10.0}] * 4,
        "curve": [
            {"round": 0, "accuracy": 0.5},
            {"round": 2, "accuracy": 0.7},
            {"round": 4, "accuracy": 0.9},
        ],
    }
    found = [cost_to(result, level, lambda row: row["cost"]) for level in (0.5, 0.6, 0.9, 0.95)]
    assert found == [0, 20, 40, None]
