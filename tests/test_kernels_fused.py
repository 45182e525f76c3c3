"""Fused modules give the plain ones' gradients and keep less; recomputed layers too, and keep next to nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from grpo_support import (
    CONFIGS,
    everything_in_double,
    gradients,
    ragged_groups,
    tiny_model,
    tiny_policy,
    worst_relative_difference,
)
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from grandrounds.kernels import fused, install
from grandrounds.kernels.shared_prefix.layout import TreeLayout
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.policy.model import Policy
from grandrounds.types import Group


def _loss(policy: Policy, groups: list[Group]) -> Tensor:
    tree = token_tree([(g.prompt.tokens, [c.tokens for c in g.completions]) for g in groups])
    targets = torch.from_numpy(np.concatenate([c.tokens for g in groups for c in g.completions]))
    return tree_logprobs(policy, tree, targets)[0].mean()


def _gradients(policy: Policy, groups: list[Group]) -> dict[str, Tensor]:
    _loss(policy, groups).backward()
    return gradients(policy.model)


def _kept(policy: Policy) -> int:
    tree = token_tree([(np.ones(20, np.int64), [np.ones(10, np.int64)] * 4)] * 4)
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.model.parameters()}
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        states = policy.hidden(tree.tokens, tree.positions, TreeLayout(tree))
    assert states.requires_grad
    return sum(kept.values())


class _FeedForward(nn.Module):
    """As Phi's: no gate, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 10), nn.Linear(10, 6)
        self.activation_fn = GELUActivation()

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.fc1(hidden_states)
        hidden_states = self.activation_fn(hidden_states)
        hidden_states = self.fc2(hidden_states)
        return hidden_states


class GELUActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x)


class _Scaled(_FeedForward):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return 2 * super().forward(hidden_states)


class _Shifted(nn.Module):
    """As Gemma's norm: 1 + w."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.zeros(6)), 1e-6

    def forward(self, hidden_states: Tensor) -> Tensor:
        return nn.functional.rms_norm(
            hidden_states, self.weight.shape, 1 + self.weight, self.variance_epsilon
        )


@pytest.mark.parametrize("kind", [_Scaled, _Shifted])
def test_a_module_with_the_names_but_not_the_arithmetic_computes_by_itself(kind: type[nn.Module]) -> None:
    assert fused.training_forward(kind(), keep_inner=True) is None


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "mistral"])
def test_every_norm_block_and_linear_layer_of_these_models_is_served(architecture: str) -> None:
    served = [
        type(module).__name__
        for module in tiny_model(architecture).modules()
        if fused.training_forward(module, keep_inner=True) is not None
    ]
    for part, count in (("RMSNorm", 5), ("MLP", 2), ("Linear", 15)):
        assert sum(part in name for name in served) >= count


def test_an_ungated_block_with_biases_has_the_plain_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "SMALLEST_PART", 3)
    monkeypatch.setattr(fused, "PART_BYTES", 0)
    plain = _FeedForward().double()
    ours = copy.deepcopy(plain)
    install(ours, fused=True, packed_weights=False)
    states = torch.randn(1, 8, 6, dtype=torch.float64)
    results = []
    for module in (plain, ours):
        given = states.clone().requires_grad_()
        out = module(given)
        (out * torch.arange(6)).sum().backward()
        results.append({"out": out, "states": given.grad, **gradients(module)})
    assert worst_relative_difference(results[1], results[0]) < 1e-12


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2"])
def test_parts_of_rows_change_no_gradient(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with everything_in_double():
        policy = tiny_policy(tiny_model(architecture))
        whole = _gradients(policy, ragged_groups(2))
        monkeypatch.setattr(fused, "SMALLEST_PART", 5)
        monkeypatch.setattr(fused, "PART_BYTES", 0)
        assert worst_relative_difference(_gradients(policy, ragged_groups(2)), whole) < 1e-10


def test_fused_layers_keep_three_tenths_less() -> None:
    policy = tiny_policy(tiny_model("qwen2", dtype=torch.float32))
    less = _kept(policy)
    install(policy.base, fused=False, packed_weights=False)
    assert less < 0.7 * _kept(policy)


def test_a_deep_copy_computes_with_its_own_weights() -> None:
    policy = tiny_policy(tiny_model("qwen2"))
    other = tiny_policy(copy.deepcopy(policy.model))
    groups = ragged_groups(4)
    before = _loss(other, groups)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(2)
    assert torch.equal(_loss(other, groups), before)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_recomputed_layers_give_the_same_gradients(architecture: str) -> None:
    groups = ragged_groups(5)
    policy = tiny_policy(tiny_model(architecture))
    kept = _gradients(policy, groups)
    for policy.recompute in ("feed_forward", "layers"):
        policy.__post_init__()
        again = _gradients(policy, groups)
        assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_what_is_recomputed_is_not_kept() -> None:
    policy = tiny_policy(tiny_model("qwen2", dtype=torch.float32))
    everything = _kept(policy)
    for policy.recompute, share in (("feed_forward", 0.6), ("layers", 0.25)):
        policy.__post_init__()
        assert _kept(policy) < share * everything


@pytest.mark.parametrize("feed_forward", [False, True])
def test_lora_on_bfloat16_layers_has_gradients_in_its_own_precision(
    feed_forward: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multiplied in bfloat16, summed over parts and kept in float32: each within bfloat16 of the exact one."""
    monkeypatch.setattr(fused, "SMALLEST_PART", 16)
    monkeypatch.setattr(fused, "PART_BYTES", 0)
    generator = torch.Generator().manual_seed(0)

    def filled(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).bfloat16().double() / shape[-1] ** 0.5

    shapes = [((48, 32), (4, 32), (48, 4)), ((48, 32), (4, 32), (48, 4)), ((32, 48), (4, 48), (32, 4))]
    exact = [[filled(*shape) for shape in three] for three in (shapes if feed_forward else shapes[:1])]
    states, given = filled(1, 96, 32), filled(1, 96, 32 if feed_forward else 48)

    def adapters(weights: list[list[Tensor]], x: Tensor) -> list[Tensor]:
        tensors = [tensor for weight, a, b in weights for tensor in (weight, None, a, b)]
        if feed_forward:
            out = fused._FeedForward.apply(x, None, False, "silu", [2.0] * 3, *tensors)
        else:
            out = fused._Linear.apply(x, None, 2.0, *tensors)
        out.backward(given.to(out.dtype))
        return [adapter.grad for _, *pair in weights for adapter in pair if adapter.grad is not None]

    def trained(dtype: torch.dtype, own: torch.dtype) -> list[list[Tensor]]:
        return [
            [weight.to(dtype), *(adapter.to(own, copy=True).requires_grad_() for adapter in pair)]
            for weight, *pair in exact
        ]

    plain = adapters(trained(torch.float64, torch.float64), states)
    ours = adapters(trained(torch.bfloat16, torch.float32), states.bfloat16())
    assert len(ours) == len(plain) == 2 * len(exact)
    for narrow, wide in zip(ours, plain, strict=True):
        assert narrow.dtype == torch.float32
        assert float((narrow - wide).norm() / wide.norm()) < 2e-2
