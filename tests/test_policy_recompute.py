"""Layers' inputs may wait in another memory: these alone, once, and without a change to any gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grpo_support import CONFIGS, gradients, ragged_groups, tiny_model, tiny_policy
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_model_folder
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from grandrounds.errors import RecipeError
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.planning.planner import chosen_device
from grandrounds.policy.load import device_of, load_policy
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.policy.model import Policy, Recompute
from grandrounds.policy.recompute import recompute_layers
from grandrounds.recipe import PolicyRecipe, Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.target import Target

LAYERS, WIDTH = 2, 32


def loss_of(policy: Policy) -> tuple[Tensor, int]:
    """(a loss, tokens forwarded for it)."""
    groups = ragged_groups(5)
    tree = token_tree([(g.prompt.tokens, [c.tokens for c in g.completions]) for g in groups], policy.device)
    targets = np.concatenate([c.tokens for g in groups for c in g.completions])
    logprobs, _ = tree_logprobs(policy, tree, torch.from_numpy(targets).to(policy.device))
    return logprobs.mean(), tree.size


def gradients_of(policy: Policy) -> dict[str, Tensor]:
    loss_of(policy)[0].backward()
    return gradients(policy.model)


def model_of(architecture: str, adapter: bool) -> Any:
    model = tiny_model(architecture)
    if adapter:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            # Random B as well: at its usual 0 the gradients of A would all be 0.
            model = get_peft_model(
                model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
            )
    return model.eval()


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_what_waits_elsewhere_changes_no_gradient(architecture: str, adapter: bool) -> None:
    policy = tiny_policy(model_of(architecture, adapter))
    kept = gradients_of(policy)
    assert kept
    policy.recompute = "offload"
    policy.__post_init__()
    again = gradients_of(policy)
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name], kept[name]) for name in kept)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_one_tensor_a_layer_waits_its_input(architecture: str, adapter: bool) -> None:
    left: list[tuple[int, ...]] = []
    back: list[tuple[int, ...]] = []

    def leave(tensor: Tensor) -> Tensor:
        left.append(tuple(tensor.shape))
        return tensor.clone()

    def come_back(tensor: Tensor) -> Tensor:
        back.append(tuple(tensor.shape))
        return tensor.clone()

    policy = tiny_policy(model_of(architecture, adapter))
    recompute_layers(policy.base, lambda: saved_tensors_hooks(leave, come_back))
    loss, tokens = loss_of(policy)
    assert left == [(1, tokens, WIDTH)] * LAYERS
    assert not back
    loss.backward()
    assert left == back  # what the backward pass computes again does not leave


@pytest.mark.cuda
def test_on_a_gpu_nothing_of_the_layers_stays() -> None:
    def forward(recompute: Recompute) -> tuple[int, dict[str, Tensor]]:
        policy = tiny_policy(tiny_model("qwen2", dtype=torch.float32).to("cuda"))
        policy.device, policy.recompute = torch.device("cuda"), recompute
        policy.__post_init__()
        before = torch.cuda.memory_allocated()
        loss, _ = loss_of(policy)
        kept = torch.cuda.memory_allocated() - before
        loss.backward()
        return kept, gradients(policy.model)

    forward("layers")  # what the libraries take at their first use
    (layers, expected), (offload, found) = forward("layers"), forward("offload")
    assert offload < layers
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_there_is_nowhere_to_wait_beside_a_cpu() -> None:
    with pytest.raises(RecipeError) as refusal:
        device_of(PolicyRecipe(device="cpu", recompute="offload"))
    assert refusal.value.where == "policy.recompute"
    assert "layers" in refusal.value.hint
    with pytest.raises(RecipeError, match="already uses it"):  # of a run, before its model is looked for
        load_policy(PolicyRecipe(model="none/there", device="cpu", recompute="offload"), seed=0)
    with pytest.raises(RecipeError, match="already uses it"):  # of a plan
        chosen_device(with_overrides(Recipe(), ["policy.device=cpu", "policy.recompute=offload"]))
    assert device_of(PolicyRecipe(device="cpu", recompute="layers")).type == "cpu"


def test_what_a_gpu_has_trained_is_examined_without_one(tmp_path: Path) -> None:
    model = str(tiny_model_folder(tmp_path / "model", "qwen2"))
    recipe = with_overrides(Recipe(), ["policy.device=cpu", "policy.recompute=offload"])
    assert Target("tiny", model, recipe, None, is_run=False).load().recompute == "nothing"
