"""Muon against plain references in float64: the singular value decomposition, and torch's own Muon."""

from __future__ import annotations

import pytest
import torch

from grandrounds.algorithm.muon import Muon, orthogonalise


def _matrix(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """On the singular values alone, in float64."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", [(12, 12), (8, 40), (40, 8)])
def test_orthogonalising_changes_the_singular_values_alone(shape: tuple[int, int]) -> None:
    matrix = _matrix(*shape)
    result = orthogonalise(matrix)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), _newton_schulz(matrix), rtol=0, atol=1e-4)


def test_singular_values_come_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalise(_matrix(24, 60)))
    assert values.min() > 0.65
    assert values.max() < 1.25


def test_a_gradient_of_zeros_moves_nothing() -> None:
    weight = torch.nn.Parameter(_matrix(6, 10))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight]).step()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("shape", [(16, 16), (12, 48), (48, 12)])
def test_steps_equal_torchs_up_to_bfloat16(shape: tuple[int, int]) -> None:
    """torch.optim.Muon is the public implementation; it orthogonalises in bfloat16."""
    ours, theirs = (torch.nn.Parameter(_matrix(*shape)) for _ in range(2))
    optimizers = (
        Muon([ours], weight_decay=0.1),
        torch.optim.Muon([theirs], weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    )
    start = ours.detach().clone()
    for step in range(4):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = _matrix(*shape, seed=step + 1)
            optimizer.param_groups[0]["lr"] = 0.02
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved
