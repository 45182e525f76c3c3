"""4-bit base weights: what they take, how they are asked for, and that a run on them is a run like any other."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model_folder
from torch import nn

from grandrounds.errors import PolicyError, RecipeError
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.policy.load import configuration, load_policy
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.policy.model import Policy
from grandrounds.policy.quantize import PACKED_BYTES, Packed, packable
from grandrounds.policy.random_model import random_model
from grandrounds.policy.save import save_policy
from grandrounds.recipe import PolicyRecipe, Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import resume, train

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed")


def _recipe(folder: Path, **options: Any) -> PolicyRecipe:
    return PolicyRecipe(model=str(folder), device="cpu", quantize="4bit", **options)


def _packed(folder: Path, **options: Any) -> Policy:
    return load_policy(_recipe(folder, **options), seed=0)


def _logprobs(policy: Policy) -> torch.Tensor:
    noise = np.random.default_rng(3)
    prompt, first, second = (noise.integers(0, 200, size) for size in (20, 9, 6))
    targets = torch.from_numpy(np.concatenate([first, second]))
    return tree_logprobs(policy, token_tree([(prompt, [first, second])]), targets)[0]


def _move(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def test_all_weights_cannot_be_trained_in_4_bits() -> None:
    with pytest.raises(RecipeError, match="LoRA only"):
        recipe_from({"policy": {"quantize": "4bit", "adapter": "full", "model": "some/model"}})


def test_a_model_from_scratch_has_no_4_bit_weights() -> None:
    with pytest.raises(RecipeError, match="a scratch model") as caught:
        load_policy(PolicyRecipe(quantize="4bit", device="cpu"), seed=0, corpus=lambda: ("a",))
    assert caught.value.where == "policy.quantize"


def test_without_bitsandbytes_one_learns_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="bitsandbytes") as caught:
        _packed(tiny_model_folder(tmp_path, "qwen2"))
    assert "grandrounds[quantize]" in caught.value.hint


def test_files_that_hold_quantised_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Qwen2Config

    folder = tiny_model_folder(tmp_path, "qwen2")
    monkeypatch.setattr(Qwen2Config, "quantization_config", {"quant_method": "x"}, raising=False)
    with pytest.raises(PolicyError, match="quantised"):
        load_policy(PolicyRecipe(model=str(folder), device="cpu"), seed=0)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2"])
def test_every_linear_layer_but_head_and_adapters_is_packed(architecture: str, tmp_path: Path) -> None:
    recipe = _recipe(tiny_model_folder(tmp_path, architecture))
    _, base = random_model(recipe, configuration(recipe, 0), torch.float32)
    packed = packable(base)
    assert len(packed) == 2 * 7
    assert base.get_output_embeddings() not in packed
    assert not any(layer.weight.requires_grad for layer in packed)
    # Where memory is planned no shortcut for plain layers may be taken: packed ones take none.
    assert {type(layer) for layer in packed} == {Packed}


@needs_bitsandbytes
class TestOnTheCpu:
    """With bitsandbytes, whose products a CPU can compute as well."""

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_sampler_and_learner_read_one_set_of_packed_weights(self, precision: str, tmp_path: Path) -> None:
        import bitsandbytes

        policy = _packed(tiny_model_folder(tmp_path, "qwen2"), precision=precision)
        packed = [m for m in policy.base.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
        assert len(packed) == 2 * 7
        assert policy.head().weight.dtype == getattr(torch, precision)
        before = [module.weight.data.clone() for module in packed]
        with torch.inference_mode():
            free = _logprobs(policy)
        with_gradient = _logprobs(policy)
        torch.testing.assert_close(free, with_gradient.detach(), atol=1e-5, rtol=1e-5)
        for module, weight in zip(packed, before, strict=True):
            assert torch.equal(module.weight.data, weight)

    def test_gradients_are_those_of_the_unpacked_weights(self, tmp_path: Path) -> None:
        """On some processors bitsandbytes would lay weights out anew, and pass no gradient on."""
        folder = tiny_model_folder(tmp_path, "qwen2")
        policy = _packed(folder, precision="float32")
        plain = load_policy(PolicyRecipe(model=str(folder), device="cpu", precision="float32"), seed=0)
        _unpack(policy, plain)
        for one in (policy, plain):
            _move(one)
            with torch.no_grad():
                _logprobs(one)
            _logprobs(one).sum().backward()
        expected = dict(plain.model.named_parameters())
        for name, parameter in policy.model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-4, rtol=1e-3)

    def test_a_saved_adapter_comes_back_on_packed_weights(self, tmp_path: Path) -> None:
        policy = _packed(tiny_model_folder(tmp_path / "model", "qwen2"))
        reference = _logprobs(policy)
        _move(policy)
        save_policy(policy, tmp_path / "saved")
        assert not (tmp_path / "saved/model.safetensors").exists()
        assert torch.equal(_logprobs(_packed(tmp_path / "saved")), _logprobs(policy))
        with policy.reference():
            assert torch.equal(_logprobs(policy), reference)

    def test_packed_weights_are_as_large_as_planned(self, tmp_path: Path) -> None:
        wide = {"hidden_size": 256, "intermediate_size": 512}
        policy = _packed(tiny_model_folder(tmp_path, "qwen2", **wide))
        names = {
            name.partition("weight.")[0] + "weight" for name in policy.base.state_dict() if "absmax" in name
        }
        state = policy.base.state_dict()
        stored = sum(
            tensor.numel() * tensor.element_size()
            for name, tensor in state.items()
            if name in names or name.endswith((".absmax", ".nested_absmax"))
        )
        assert stored == pytest.approx(
            PACKED_BYTES * 2 * (2 * 256**2 + 2 * 128 * 256 + 3 * 256 * 512), rel=0.01
        )

    def test_a_resumed_run_on_packed_weights_equals_the_uninterrupted_one(self, tmp_path: Path) -> None:
        folder = train(_run_recipe(tmp_path), tmp_path / "run", progress=SilentProgress()).folder
        last = folder / "checkpoints/000002"
        expected = {path.name: path.read_bytes() for path in last.glob("*.safetensors")}
        assert set(expected) == {"adapter_model.safetensors", "optimizer.safetensors"}
        assert (
            json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["sampling/ratio_error"] < 1e-3
        )
        shutil.rmtree(last)
        resume(folder, progress=SilentProgress())
        assert {path.name: path.read_bytes() for path in last.glob("*.safetensors")} == expected
        cold = load_file(folder / "checkpoints/000000/adapter_model.safetensors")
        moved = load_file(last / "adapter_model.safetensors")
        assert not any(torch.equal(moved[name], cold[name]) for name in cold if "lora_B" in name)


def parity(attempt) -> float:  # type: ignore[no-untyped-def]
    """Something to learn that short answers of a random model already differ in."""
    return float(sum(attempt.tokens) % 2)


def _run_recipe(place: Path) -> Recipe:
    with (place / "cases.jsonl").open("w") as file:
        for number in range(4):
            file.write(json.dumps({"id": str(number), "question": f"{number} and 1?", "answer": "2"}) + "\n")
    return recipe_from(
        {
            "rounds": 2,
            "cases": {"source": str(place / "cases.jsonl"), "test_fraction": 0},
            "prompt": {"system": ""},
            "policy": {
                "model": str(tiny_model_folder(place / "model", "qwen2")),
                "quantize": "4bit",
                "precision": "float32",
                "device": "cpu",
            },
            "grpo": {"group_size": 4, "cases_per_round": 4, "max_new_tokens": 12, "learning_rate": 1e-2},
            "rewards": {"parity": {"use": f"{__file__}:parity"}},
            "checkpoint": {"every": 1},
            "guard": {"enabled": False},
        }
    )


def _unpack(packed: Policy, plain: Policy) -> None:
    """Give a plain policy the weights that a packed one computes with."""
    from bitsandbytes.functional import dequantize_4bit

    modules = dict(plain.base.named_modules())
    for name, module in packed.base.named_modules():
        if isinstance(module, nn.Linear) and hasattr(module.weight, "quant_state"):
            modules[name].weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
