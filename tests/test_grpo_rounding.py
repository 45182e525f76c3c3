"""Weights in bfloat16 move by steps that are far below their precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grandrounds.grpo.optimizers import build_optimizers
from grandrounds.grpo.rounding import RoundingAdamW, round_stochastically


def _moved(dtype: torch.dtype, steps: int = 1000, rate: float = 1e-4) -> torch.Tensor:
    """Weights of 1 after steps against a constant gradient: each is `rate`."""
    parameter = nn.Parameter(torch.ones(64, 64, dtype=dtype))
    (optimizer,) = build_optimizers(nn.Module(), {"w": parameter}, weight_decay=0.0, muon=False)
    for group in optimizer.param_groups:
        group["lr"] = rate
    for _ in range(steps):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return parameter.detach().float()


def test_a_thousand_small_steps_add_up_as_in_float32() -> None:
    wide, narrow = _moved(torch.float32), _moved(torch.bfloat16)
    assert wide.mean() == pytest.approx(0.9, abs=1e-4)
    assert narrow.mean() == pytest.approx(float(wide.mean()), abs=1e-3)
    lost = torch.ones((), dtype=torch.bfloat16)
    for _ in range(1000):
        lost -= 1e-4
    assert lost == 1  # what rounding to the nearest would make of it


def test_the_step_is_adamws() -> None:
    torch.manual_seed(0)
    weights, gradients = torch.randn(300), torch.randn(7, 300).bfloat16()
    narrow = nn.Parameter(weights.bfloat16())
    wide = nn.Parameter(narrow.detach().float())
    ours = RoundingAdamW([{"params": [narrow], "weight_decay": 0.1}], lr=1e-2, betas=(0.9, 0.95))
    theirs = torch.optim.AdamW([wide], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    for gradient in gradients:
        narrow.grad, wide.grad = gradient.clone(), gradient.float()
        ours.step()
        theirs.step()
    for moment in ("exp_avg", "exp_avg_sq"):
        assert ours.state[narrow][moment].dtype == torch.float32
        torch.testing.assert_close(ours.state[narrow][moment], theirs.state[wide][moment])
    torch.testing.assert_close(narrow.detach().float(), wide.detach(), rtol=0.03, atol=0.01)


def test_rounding_is_right_on_average_and_keeps_what_is_exact() -> None:
    generator = torch.Generator().manual_seed(1)
    exact = torch.tensor([1.0, -2.5, 0.0, 384.0])
    assert torch.equal(round_stochastically(exact, generator).float(), exact)
    values = torch.full((100_000,), -1.001)
    assert round_stochastically(values, generator).float().mean() == pytest.approx(-1.001, abs=1e-4)
    assert set(round_stochastically(values, generator).float().tolist()) == {-1.0, -1.0078125}


def test_a_resumed_optimizer_takes_the_same_steps() -> None:
    def stepped(parameter: nn.Parameter, optimizer: RoundingAdamW, times: int) -> None:
        for _ in range(times):
            parameter.grad = torch.full_like(parameter, 0.3)
            optimizer.step()

    whole = nn.Parameter(torch.ones(50, dtype=torch.bfloat16))
    stepped(whole, RoundingAdamW([whole]), 6)
    first = nn.Parameter(torch.ones(50, dtype=torch.bfloat16))
    optimizer = RoundingAdamW([first])
    stepped(first, optimizer, 3)
    second = nn.Parameter(first.detach().clone())
    resumed = RoundingAdamW([second])
    resumed.state[second] = {name: value.clone() for name, value in optimizer.state[first].items()}
    stepped(second, resumed, 3)
    assert torch.equal(second, whole)
