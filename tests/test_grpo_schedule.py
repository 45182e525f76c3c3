"""The learning rate of each round, or of each optimizer step as transformers' schedules count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import get_scheduler

from grandrounds.algorithm.schedule import learning_rate
from grandrounds.recipe import GrpoRecipe

PEAK, ROUNDS = 1e-3, 7


def rates(per_round: int = 1, **keys: Any) -> list[float]:
    recipe = GrpoRecipe(learning_rate=PEAK, **keys)
    steps = [(number, step / per_round) for number in range(1, ROUNDS + 1) for step in range(per_round)]
    return [learning_rate(recipe, number, ROUNDS, share) for number, share in steps]


def transformers_rates(name: str, warmup: int, steps: int, **further: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=further or None)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("per_round", [1, 3])
@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_by_step_it_is_transformers_schedule(name: str, warmup: int, per_round: int) -> None:
    ours = rates(per_round, schedule=name, warmup_rounds=warmup, learning_rate_end=0.0, schedule_by="step")
    theirs = transformers_rates(name, warmup * per_round, ROUNDS * per_round)
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-18)


def test_by_step_the_end_is_transformers_min_lr_rate() -> None:
    ours = rates(schedule="cosine", warmup_rounds=2, learning_rate_end=0.3, schedule_by="step")
    theirs = transformers_rates("cosine_with_min_lr", 2, ROUNDS, min_lr_rate=0.3)
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_by_round_the_last_round_has_the_end_and_the_first_is_above_zero() -> None:
    usual = rates(schedule="linear", warmup_rounds=2)
    assert usual[0] == pytest.approx(PEAK / 2)
    assert usual[1] == pytest.approx(PEAK)
    assert usual[-1] == pytest.approx(0.1 * PEAK)
    assert rates(schedule="linear", learning_rate_end=0.0)[-1] == 0


def test_a_constant_rate_has_no_end() -> None:
    assert rates(schedule="constant", learning_rate_end=0.0) == [PEAK] * ROUNDS
