"""AdamW that keeps less: weights in bfloat16 move by steps far below their precision, moments lie in 8 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from grandrounds.algorithm import rounding
from grandrounds.algorithm.moments import moment_bytes
from grandrounds.algorithm.optimizers import Optimizer, build_optimizers
from grandrounds.algorithm.rounding import RoundingAdamW, round_stochastically

FORMS = pytest.mark.parametrize("eight_bits", [False, True], ids=["32bit", "8bit"])


def _moved(
    dtype: torch.dtype, kind: Optimizer = "adamw", steps: int = 1000, rate: float = 1e-4
) -> torch.Tensor:
    """Weights of 1 after steps against a constant gradient: each is `rate`."""
    parameter = nn.Parameter(torch.ones(64, 64, dtype=dtype))
    (optimizer,) = build_optimizers(nn.Module(), {"w": parameter}, weight_decay=0.0, optimizer=kind)
    for group in optimizer.param_groups:
        group["lr"] = rate
    for _ in range(steps):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return parameter.detach().float()


@pytest.mark.parametrize("kind", ["adamw", "adamw_8bit"])
def test_a_thousand_small_steps_add_up_as_in_float32(kind: Optimizer) -> None:
    wide, narrow = _moved(torch.float32), _moved(torch.bfloat16, kind)
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


def test_neighbours_get_noise_of_their_own() -> None:
    values = torch.full((400_000,), -1.001)
    lanes = round_stochastically(values, torch.Generator().manual_seed(1)).float().view(-1, 4)
    assert lanes.mean(0).tolist() == pytest.approx(4 * [-1.001], abs=5e-5)
    assert lanes.T.corrcoef().fill_diagonal_(0).abs().max() < 0.02


def _distances(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: int) -> list[float]:
    """Root mean square distance from the minimum before each step; curvatures from 1/100 to 100, noisy gradients."""
    torch.manual_seed(1)
    curvature = torch.logspace(-2, 2, parameter.numel()).view_as(parameter)
    distances = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        slope = curvature * (parameter.detach().float() - 1)
        distances.append(float((parameter.detach().float() - 1).square().mean().sqrt()))
        parameter.grad = (slope * (1 + 0.1 * torch.randn_like(slope))).to(parameter.dtype)
        optimizer.step()
    return distances


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 0.01), (torch.bfloat16, 0.02)], ids=str)
def test_8_bit_moments_lead_where_adamw_leads(dtype: torch.dtype, apart: float) -> None:
    ours, theirs = (nn.Parameter(torch.zeros(80, 100, dtype=kind)) for kind in (dtype, torch.float32))
    rates = {"lr": 0.05, "betas": (0.9, 0.95)}
    packed = _distances(RoundingAdamW([ours], **rates, eight_bits=True), ours, 300)
    plain = _distances(torch.optim.AdamW([theirs], **rates, weight_decay=0.0), theirs, 300)
    assert packed[0] == plain[0] == 1
    assert packed[-1] < 0.02
    assert max(abs(a - b) for a, b in zip(packed, plain, strict=True)) < apart


def test_one_step_of_8_bit_moments_is_adamws_to_the_last_digit_but_one() -> None:
    torch.manual_seed(0)
    weights, gradient = torch.randn(70, 90), torch.randn(70, 90)
    ours, theirs = (nn.Parameter(weights.clone()) for _ in range(2))
    ours.grad, theirs.grad = gradient.clone(), gradient.clone()
    RoundingAdamW([{"params": [ours], "weight_decay": 0.1}], lr=1e-2, eight_bits=True).step()
    torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.1).step()
    torch.testing.assert_close(ours, theirs)  # moments are packed after the step that makes them


def test_a_weight_with_a_gradient_far_below_its_blocks_does_not_jump() -> None:
    parameter = nn.Parameter(torch.zeros(4096))
    optimizer = RoundingAdamW([parameter], lr=1e-3, betas=(0.9, 0.95), eight_bits=True)
    gradient = torch.full_like(parameter, 1e-6)  # its square is below the map's smallest number
    gradient[::256] = 1.0
    for slopes in (gradient, torch.where(gradient == 1, gradient, 0)):
        parameter.grad = slopes
        optimizer.step()
    assert parameter.abs().max() < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@FORMS
def test_parts_change_nothing(dtype: torch.dtype, eight_bits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.randn(5000, dtype=dtype))
        optimizer = RoundingAdamW([parameter], eight_bits=eight_bits)
        for _ in range(3):
            parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        return parameter.detach(), dict(optimizer.state[parameter])

    weights, state = stepped()
    monkeypatch.setattr(rounding, "CPU_PART", 512)
    again, state_again = stepped()
    assert all(torch.equal(state[name], state_again[name]) for name in state)
    if dtype == torch.float32:  # noise is drawn for a part at once
        assert torch.equal(weights, again)


@FORMS
def test_the_state_takes_the_bytes_that_are_counted(eight_bits: bool) -> None:
    for shape in ((4095,), (4096,), (67, 71), (3, 5)):
        parameter = nn.Parameter(torch.zeros(shape, dtype=torch.bfloat16))
        parameter.grad = torch.ones_like(parameter)
        optimizer = RoundingAdamW([parameter], eight_bits=eight_bits)
        optimizer.step()
        moments = [value for name, value in optimizer.state[parameter].items() if name != "step"]
        assert sum(value.nbytes for value in moments) == moment_bytes(parameter, eight_bits=eight_bits)
        packed = eight_bits and parameter.numel() >= 4096
        assert len(moments) == (4 if packed else 2)


@FORMS
def test_a_resumed_optimizer_takes_the_same_steps(eight_bits: bool, tmp_path: Path) -> None:
    def stepped(parameter: nn.Parameter, optimizer: RoundingAdamW, times: range) -> None:
        for time in times:
            generator = torch.Generator().manual_seed(time)
            parameter.grad = torch.randn(parameter.shape, generator=generator).bfloat16()
            optimizer.step()

    whole = nn.Parameter(torch.ones(5000, dtype=torch.bfloat16))
    stepped(whole, RoundingAdamW([whole], eight_bits=eight_bits), range(6))
    first = nn.Parameter(torch.ones(5000, dtype=torch.bfloat16))
    optimizer = RoundingAdamW([first], eight_bits=eight_bits)
    stepped(first, optimizer, range(3))
    save_file(dict(optimizer.state[first]), tmp_path / "state.safetensors")
    second = nn.Parameter(first.detach().clone())
    resumed = RoundingAdamW([second], eight_bits=eight_bits)
    resumed.state[second] = load_file(tmp_path / "state.safetensors")
    stepped(second, resumed, range(3, 6))
    assert torch.equal(second, whole)
