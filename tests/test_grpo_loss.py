"""Losses equal plain references written from the formulas; advantages keep their definitions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grandrounds.algorithm.grpo import LOSSES, advantages
from grandrounds.algorithm.loss import LossInputs, LossSettings, Totals, k3

LOW, HIGH, BETA, LONGEST = 0.2, 0.28, 0.05, 12
REWARDS = hnp.arrays(np.float64, (4, 5), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.3]))


@dataclass
class Row:
    """One completion: log-probs of policy, behaviour and reference by token."""

    policy: list[float]
    behaviour: list[float]
    reference: list[float]
    advantage: float
    active: bool
    step: int


def _rows(seed: int) -> list[Row]:
    noise = np.random.default_rng(seed)
    rows = []
    for index in range(8):
        length = int(noise.integers(1, LONGEST + 1))
        behaviour = noise.normal(-2, 0.5, length)
        rows.append(
            Row(
                (behaviour + noise.normal(0, 0.4, length)).tolist(),
                behaviour.tolist(),
                (behaviour + noise.normal(0, 0.4, length)).tolist(),
                float(noise.normal()),
                bool(noise.random() > 0.2),
                index % 2,
            )
        )
    return rows


def _token_loss(row: Row, t: int) -> float:
    ratio = math.exp(row.policy[t] - row.behaviour[t])
    clipped = min(max(ratio, 1 - LOW), 1 + HIGH)
    x = row.reference[t] - row.policy[t]
    return -min(ratio * row.advantage, clipped * row.advantage) + BETA * (math.exp(x) - x - 1)


def _reference(form: str, rows: list[Row], step: int) -> float:
    """The loss of one of two optimizer steps, as each paper writes it."""
    here = [row for row in rows if row.step == step]
    sums = [sum(_token_loss(row, t) for t in range(len(row.policy))) if row.active else 0.0 for row in here]
    if form == "grpo":  # mean over completions of the mean over tokens
        return sum(total / len(row.policy) for total, row in zip(sums, here, strict=True)) / len(here)
    if form == "bnpo":  # mean over the step's active tokens
        return sum(sums) / sum(len(row.policy) for row in here if row.active)
    if form == "dapo":  # the mean of both steps' losses is the round's token mean
        return 2 * sum(sums) / sum(len(row.policy) for row in rows if row.active)
    return sum(total / LONGEST for total in sums) / len(here)


def _ours(form: str, rows: list[Row], step: int) -> float:
    here = [row for row in rows if row.step == step]
    lengths = np.array([len(row.policy) for row in here])
    active = np.array([row.active for row in here])
    round_active = sum(len(row.policy) for row in rows if row.active)
    totals = Totals(len(here), int(lengths[active].sum()), round_active, 2, LONGEST)
    weights = np.repeat(LOSSES[form].token_weights(lengths, active, totals), lengths)
    inputs = LossInputs(
        _flat(row.policy for row in here),
        _flat(row.behaviour for row in here),
        torch.from_numpy(np.repeat([row.advantage for row in here], lengths)),
        torch.from_numpy(weights),
        np.concatenate([[0], np.cumsum(lengths)]),
        reference=_flat(row.reference for row in here),
    )
    loss, _ = LOSSES[form].objective(inputs, LossSettings(LOW, HIGH, BETA))
    return float(loss)


def _flat(parts) -> torch.Tensor:
    return torch.tensor([value for part in parts for value in part], dtype=torch.float64)


@pytest.mark.parametrize("form", ["grpo", "bnpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("seed", range(5))
def test_each_form_equals_a_plain_reference(form: str, seed: int) -> None:
    rows = _rows(seed)
    for step in (0, 1):
        assert _ours(form, rows, step) == pytest.approx(_reference(form, rows, step), rel=1e-12)


def test_the_clip_stops_the_gradient_only_where_it_would_go_on_outward() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5], dtype=torch.float64)
    logprobs = ratio.log().requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    ones, zeros = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    inputs = LossInputs(logprobs, zeros, advantage, ones, np.arange(5))
    loss, statistics = LOSSES["grpo"].objective(inputs, LossSettings(LOW, HIGH))
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0, 1.5, -0.5, 0.0])
    assert statistics["clip_high"].tolist() == [1, 0, 0, 0]
    assert statistics["clip_low"].tolist() == [0, 0, 0, 1]


@given(st.floats(-30, 30))
def test_k3_is_never_negative(difference: float) -> None:
    for dtype in (torch.float32, torch.float64):
        assert k3(torch.tensor(difference, dtype=dtype)) >= 0


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@given(rewards=REWARDS)
def test_advantages_sum_to_zero_and_equal_rewards_give_exactly_zero(rewards, scale, baseline) -> None:
    rewards[0] = 0.1
    made = advantages(rewards, scale=scale, baseline=baseline)
    assert (made[0] == 0).all()
    assert made.sum(1) == pytest.approx(np.zeros(4), abs=1e-9)


@given(rewards=REWARDS)
def test_leave_one_out_compares_with_the_mean_of_the_others(rewards: np.ndarray) -> None:
    made = advantages(rewards, scale="none", baseline="leave_one_out")
    for i, j in np.ndindex(*rewards.shape):
        others = np.delete(rewards[i], j).mean()
        assert made[i, j] == pytest.approx(rewards[i, j] - others, abs=1e-12)


@given(rewards=REWARDS, index=st.integers(0, 4), reward=st.floats(-2, 2))
def test_a_leave_one_out_baseline_does_not_know_its_own_reward(rewards, index, reward) -> None:
    changed = rewards.copy()
    changed[:, index] = reward
    before, after = (advantages(r, scale="none", baseline="leave_one_out") for r in (rewards, changed))
    moved = after[:, index] - before[:, index]
    assert moved == pytest.approx(reward - rewards[:, index], abs=1e-12)


def test_group_scaling_divides_by_the_sample_deviation() -> None:
    made = advantages(np.array([[0.0, 1.0, 1.0, 1.0]]))
    assert made[0] == pytest.approx(np.array([-0.75, 0.25, 0.25, 0.25]) / (0.5 + 1e-4))


def test_batch_scaling_keeps_the_ratio_between_groups() -> None:
    rewards = np.array([[0.0, 1.0], [0.0, 0.1]])
    made = advantages(rewards, scale="batch")
    assert made[0, 1] == pytest.approx(10 * made[1, 1])
    assert made[0, 1] == pytest.approx(0.5 / (rewards.std(ddof=1) + 1e-4))
