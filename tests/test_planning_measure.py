"""Counts are those of the real model, and what is measured on a few small layers holds for all of them."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, tiny_model_folder

from grandrounds.algorithm import moments
from grandrounds.algorithm.losses import find_loss
from grandrounds.errors import PolicyError
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.planning import measure
from grandrounds.planning.measure import counted, generous, measured
from grandrounds.planning.need import Work
from grandrounds.policy import random_model
from grandrounds.policy.live_bytes import LiveBytes, peak_bytes
from grandrounds.policy.load import configuration, load_policy
from grandrounds.policy.logprobs import completion_states, tree_logprobs
from grandrounds.policy.save import save_policy
from grandrounds.recipe import KernelsRecipe, PolicyRecipe, Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.setup import grpo_learner

CPU = torch.device("cpu")
WORK = Work(prompts=8, prompt_tokens=48, group_size=4, max_new_tokens=24, tokens_per_pack=10**6)


@pytest.fixture(autouse=True)
def fewer_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """So narrow layers work on all tokens at once anyway."""
    monkeypatch.setattr(measure, "MANY", 512)
    monkeypatch.setattr(measure, "MORE", 1024)


def policy_of(tmp_path: Path, architecture: str, **changes: object) -> PolicyRecipe:
    shape: dict[str, object] = {"num_hidden_layers": 3}
    if FAMILIES[architecture].options.get("layer_types"):
        shape["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
    folder = tiny_model_folder(tmp_path / architecture, architecture, **{**shape, **changes})
    return PolicyRecipe(model=str(folder), lora_rank=4, device="cpu")


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_line_meets_a_real_update(tmp_path: Path, architecture: str, adapter: str) -> None:
    recipe = policy_of(tmp_path, architecture).model_copy(update={"adapter": adapter})
    config = configuration(recipe, 0)
    costs = measured(recipe, config, torch.float32, WORK, "cpu")
    policy = load_policy(recipe, seed=0)
    tree = token_tree([(np.ones(48, np.int64), [np.ones(24, np.int64)] * 4)] * 20)

    def update() -> None:
        states = completion_states(policy, tree)
        states.backward(torch.ones_like(states))

    update()  # then all gradients are there
    assert costs.token * tree.size + costs.fixed == pytest.approx(peak_bytes(CPU, update), rel=0.1)
    assert 0 < costs.prefill < costs.token
    assert all(
        most >= here
        for most, here in zip(astuple(generous(config, WORK)), astuple(costs), strict=True)
        if most
    )


def test_a_wide_model_is_measured_narrower_and_keeps_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = policy_of(tmp_path, "qwen2", hidden_size=512, intermediate_size=1536, num_hidden_layers=12)
    monkeypatch.undo()
    config = configuration(recipe, 0)
    assert random_model.shallow(config, random_model.layer_kinds(config))[1] == 2
    narrow = measured(recipe, config, torch.float32, WORK, "cpu")
    monkeypatch.setattr(random_model, "NARROWEST", 512)
    wide = measured(recipe, config, torch.float32, WORK, "cpu")
    assert narrow.token == pytest.approx(wide.token, rel=0.1)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_offloaded_layers_leave_their_inputs_in_the_computers_memory(
    tmp_path: Path, architecture: str
) -> None:
    recipe = policy_of(tmp_path, architecture)
    config = configuration(recipe, 0)
    layers, offload = (
        measured(recipe.model_copy(update={"recompute": how}), config, torch.float32, WORK, "cpu")
        for how in ("layers", "offload")
    )
    assert layers.offloaded == 0
    assert offload.offloaded == pytest.approx(3 * 4 * config.hidden_size, rel=0.1)
    assert layers.token - offload.token == pytest.approx(offload.offloaded)


def test_a_gpu_that_is_not_here_is_measured_in_float32_and_scaled(tmp_path: Path) -> None:
    recipe = policy_of(tmp_path, "qwen2")
    config = configuration(recipe, 0)
    here = measured(recipe, config, torch.float32, WORK, "cpu")
    there = measured(recipe, config, torch.bfloat16, WORK, "cuda")
    assert there.token == pytest.approx(here.token / 2)
    assert there.head == here.head


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_a_saved_adapter_is_measured_as_a_new_one_of_its_kind(
    tmp_path: Path, targets: str | list[str]
) -> None:
    wide = policy_of(tmp_path, "qwen2", hidden_size=512, intermediate_size=768)
    recipe = wide.model_copy(update={"lora_targets": targets})
    save_policy(load_policy(recipe, seed=0), tmp_path / "saved")
    saved = PolicyRecipe(model=str(tmp_path / "saved"), device="cpu")
    config = configuration(recipe, 0)
    new, old = (measured(which, config, torch.float32, WORK, "cpu") for which in (recipe, saved))
    assert old == new


def test_a_model_from_scratch_has_a_head_that_is_trained() -> None:
    recipe = PolicyRecipe(scratch={"layers": 1, "hidden": 256, "heads": 2, "feedforward": 128})  # type: ignore[arg-type]
    config = configuration(recipe, 300)
    few = replace(WORK, tokens_per_pack=1)  # so that a chunk of logits is small beside the weights
    assert measured(recipe, config, torch.float32, few, "cpu").head > 300 * 256 * 4


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("kernel", [True, False])
def test_the_gradient_of_entropies_is_planned_as_it_is_in_a_real_update(
    tmp_path: Path, adapter: str, kernel: bool
) -> None:
    recipe = policy_of(tmp_path, "qwen2").model_copy(
        update={"adapter": adapter, "kernels": KernelsRecipe(head=kernel)}
    )
    config = configuration(recipe, 0)
    config.vocab_size = 6000  # so that logits are most of an update
    policy = random_model.random_policy(recipe, config, torch.float32, CPU)
    tree = token_tree([(np.ones(48, np.int64), [np.ones(24, np.int64)] * 4)] * 8)
    targets = torch.ones(8 * 4 * 24, dtype=torch.int64)
    planned, real = {}, {}
    for bonus in (False, True):
        work = replace(WORK, entropy_gradient=bonus)
        costs = measured(recipe, config, torch.float32, work, "cpu")

        def update(bonus: bool = bonus) -> None:
            logprobs, entropy = tree_logprobs(policy, tree, targets, entropy_gradient=bonus)
            (logprobs.sum() + (entropy.sum() if bonus else 0)).backward()

        update()
        real[bonus] = peak_bytes(CPU, update)
        # Without the kernel the plan takes every token of the largest pack; here they are the completions' alone.
        rows = 1.0 if kernel else len(targets) / work.pack_tokens
        trained = 4 * 6000 * config.hidden_size if adapter == "full" else 0
        planned[bonus] = costs.token * tree.size + costs.fixed + (costs.head - trained) * rows + trained
    assert planned[True] > planned[False]
    for bonus in (False, True):
        assert planned[bonus] == pytest.approx(real[bonus], rel=0.25)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_weights_are_counted_without_being_there(tmp_path: Path, architecture: str) -> None:
    recipe = policy_of(tmp_path, architecture)
    model, _ = random_model.random_model(recipe, configuration(recipe, 0), torch.float32)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert random_model.parameter_bytes(model) == random_model.parameter_bytes(
        load_policy(recipe, seed=0).model
    )


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_optimizer_is_counted_to_keep_what_it_keeps(
    tmp_path: Path, adapter: str, optimizer: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "SMALLEST", 150)  # some of a tiny model's tensors, and not all
    chosen = policy_of(tmp_path, "qwen2").model_copy(update={"adapter": adapter, "precision": precision})
    recipe = with_overrides(Recipe(policy=chosen), [f"grpo.optimizer={optimizer}"])
    dtype = getattr(torch, precision)
    counts = counted(recipe, configuration(chosen, 0), dtype, "cpu")
    learner = grpo_learner(recipe, load_policy(chosen, seed=0), find_loss(recipe.grpo.loss, tmp_path))
    for parameter in learner.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    assert counts["gradients"] == sum(parameter.nbytes for parameter in learner.parameters.values())
    learner.step(1e-3)
    state = {key: value for key, value in learner.state_dict().items() if not key.endswith(".step")}
    assert counts["optimizer"] == sum(value.nbytes for value in state.values())


@pytest.mark.parametrize(
    ("settings", "eight_bits"),
    [
        ([], False),
        (["grpo.optimizer=adamw_8bit"], True),
        (["grpo.optimizer=adamw_8bit", "sft.steps=5"], False),  # the warm-up's are larger
        (["sft.optimizer=adamw_8bit", "sft.steps=5", "rounds=0"], True),
        (["sft.optimizer=adamw_8bit", "sft.steps=5"], False),
    ],
)
def test_the_larger_optimizer_of_warmup_and_rounds_counts(settings: list[str], eight_bits: bool) -> None:
    small = ["policy.scratch={layers: 1, hidden: 64, heads: 2, feedforward: 128, vocabulary: 300}"]
    recipe = with_overrides(Recipe(), [*small, *settings])
    counts = counted(recipe, configuration(recipe.policy, 300), torch.float32, "cpu")
    assert (counts["optimizer"] < counts["weights"]) is eight_bits
    assert counts["adapters"] == 0


def test_a_reference_is_a_copy_only_where_all_weights_are_trained(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, "qwen2")
    for adapter, copied in (("lora", False), ("full", True)):
        recipe = with_overrides(
            Recipe(policy=policy.model_copy(update={"adapter": adapter})), ["grpo.beta=0.1"]
        )
        counts = counted(recipe, configuration(policy, 0), torch.float32, "cpu")
        assert counts["reference"] == (counts["weights"] if copied else 0)


def test_a_model_that_cannot_be_computed_cannot_be_planned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(measure, "completion_states", fail)
    recipe = policy_of(tmp_path, "qwen2")
    with pytest.raises(PolicyError, match="cannot be planned: no such layer"):
        measured(recipe, configuration(recipe, 0), torch.float32, WORK, "cpu")


def test_live_bytes_count_what_lives() -> None:
    with LiveBytes() as live:
        kept = torch.ones(1000)
        view = kept[:10]
        passing = kept + 1
        del passing
        after = kept * 2
        assert live.now == 8000
    assert live.most == 8000
    assert view.sum() == 10
    assert after.numel() == 1000
