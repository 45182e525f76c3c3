"""Products by packed weights are the linear layer's, LoRA included, and the model is left as it was."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model_folder
from torch.nn import functional as F

from grandrounds.kernels import install, packed_weights, products
from grandrounds.kernels import packed as packed_model
from grandrounds.kernels.packed_weights import packed_bytes
from grandrounds.kernels.products import linear, packed
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import PolicyRecipe


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("biased", [False, True])
def test_the_product_is_the_linear_layers(dtype: torch.dtype, biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(70, 513, generator=generator).to(dtype)
    bias = torch.randn(70, generator=generator).to(dtype) if biased else None
    for rows in (1, 8, 33):
        states = torch.randn(1, rows, 513, generator=generator).to(dtype)
        plain = F.linear(states, weight, bias)
        for ours in (linear(states, weight, bias), linear(states, packed(weight), bias)):
            assert ours.shape == plain.shape
            assert ours.dtype == dtype
            torch.testing.assert_close(
                ours, plain, rtol=1.6e-2 if dtype == torch.bfloat16 else 1e-5, atol=2e-4
            )


def test_few_rows_are_multiplied_as_one_of_few_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, sizes = products._multiply, set()

    def watched(states: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.add(states.shape[:-1].numel())
        return multiply(states, *rest)

    monkeypatch.setattr(products, "_multiply", watched)
    weight = torch.randn(8, 16)
    for rows in (0, *range(1, 70), 511, 512, 513, 1100):
        states = torch.randn(1, rows, 16)
        for form in (weight, packed(weight)):
            torch.testing.assert_close(linear(states, form), F.linear(states, weight), rtol=1e-5, atol=1e-5)
    assert sizes >= {0, 1, 16, 64, 128, 512, 513, 1100}
    assert len(sizes) <= 1 + 16 + 12 + 7 + 2
    assert all(rows <= products.padded_rows(rows) < 2 * rows for rows in range(1, 600))
    assert products.padded_rows(5001) == 5001


def test_a_transposed_weight_serves_as_it_lies() -> None:
    weight, states = torch.randn(40, 24), torch.randn(9, 40)
    torch.testing.assert_close(linear(states, weight.T), states @ weight)


def test_every_linear_layer_is_packed_once_and_lora_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, seen = _adapted(tmp_path, "float32"), []
    monkeypatch.setattr(packed_weights, "packed", lambda weight: seen.append(weight) or packed(weight))
    with packed_model(policy.base):
        pass
    base = {
        name.replace(".base_layer", ""): parameter
        for name, parameter in policy.base.named_parameters(remove_duplicate=False)
        if "base_layer.weight" in name or name == "lm_head.weight"
    }
    assert sum(weight.numel() for weight in seen) == sum(weight.numel() for weight in base.values())
    for weight in base.values():
        assert sum(one.shape == weight.shape and torch.equal(one, weight) for one in seen) == 1


def test_copies_stop_where_their_room_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = _adapted(tmp_path, "float32")
    states = torch.randn(1, 5, 32)
    layer = policy.base.model.layers[0].mlp.up_proj
    with torch.inference_mode():
        expected = layer(states)
        whole = packed_bytes(policy.base)
        monkeypatch.setattr(packed_weights, "PACKED_BYTES", whole // 2)
        assert 0 < packed_bytes(policy.base) <= whole // 2
        monkeypatch.setattr(packed_weights, "PACKED_BYTES", 0)
        assert packed_bytes(policy.base) == 0
        with packed_model(policy.base):
            torch.testing.assert_close(layer(states), expected)


def _adapted(folder: Path, precision: str) -> Policy:
    tiny_model_folder(folder, "qwen2")
    recipe = PolicyRecipe(model=str(folder), adapter="lora", lora_rank=4, precision=precision, device="cpu")
    policy = load_policy(recipe, seed=0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:  # a new adapter's is 0
            torch.nn.init.normal_(parameter, std=0.3)
    return policy


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lora_is_computed_as_peft_computes_it(precision: str, tmp_path: Path) -> None:
    policy = _adapted(tmp_path, precision)
    layer = policy.base.model.layers[0].mlp.up_proj
    states = torch.randn(1, 5, 32).to(policy.head().weight.dtype)
    with torch.inference_mode():
        plain = layer(states)
        with packed_model(policy.base):
            ours = layer(states)
        with policy.reference(), packed_model(policy.base):
            reference = layer(states)
        expected = layer.base_layer(states)
    # PEFT computes the branch in the adapter's own precision, ours in the layer's.
    rtol, atol = (1.6e-2, 2e-2) if precision == "bfloat16" else (1e-5, 1e-5)
    torch.testing.assert_close(ours, plain, rtol=rtol, atol=atol)
    torch.testing.assert_close(reference, expected, rtol=rtol, atol=atol)
    assert not torch.allclose(plain, expected)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    policy = _adapted(tmp_path, "float32")
    before = copy.deepcopy(policy.model.state_dict())
    attributes = [vars(module).copy() for module in policy.base.modules()]
    with suppress(KeyError), packed_model(policy.base):
        assert [vars(module) for module in policy.base.modules()] != attributes
        raise KeyError
    after = policy.model.state_dict()
    assert [vars(module) for module in policy.base.modules()] == attributes
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_adapter_than_lora_computes_by_itself(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.Sequential(torch.nn.Linear(8, 6))
        config = LoraConfig(r=2, target_modules=["0"], use_dora=True, init_lora_weights=False)
        model = get_peft_model(layer, config).eval()
    states = torch.randn(1, 5, 8)
    plain = model(states)
    install(model, fused=True, packed_weights=True)
    torch.testing.assert_close(model(states), plain)
    with torch.no_grad(), packed_model(model):
        torch.testing.assert_close(model(states), plain)
