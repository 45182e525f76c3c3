"""Policies come back from folders as they were saved, and what cannot be used is one PolicyError."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, tiny_model_folder, tiny_tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GraniteConfig,
    Lfm2Config,
    MambaConfig,
    modeling_utils,
)

from grandrounds.errors import PolicyError, RecipeError
from grandrounds.kernels.shared_prefix.layout import TreeLayout
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.policy.load import load_policy
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.policy.model import Policy
from grandrounds.policy.reading import read_not_mapped
from grandrounds.policy.save import save_policy
from grandrounds.policy.verify import _difference
from grandrounds.recipe import PolicyRecipe, Recipe, ScratchRecipe
from grandrounds.training.setup import saved_policy

CORPUS = ("crushing chest pain, sweating, no fever", "<answer>A. Acute coronary syndrome</answer>") * 3
SMALL = ScratchRecipe(layers=1, hidden=32, heads=2, feedforward=48, vocabulary=300)


def _load(model: Path | str, **options: Any) -> Policy:
    return load_policy(PolicyRecipe(model=str(model), device="cpu", **options), seed=0)


def _scratch(seed: int) -> Policy:
    recipe = PolicyRecipe(scratch=SMALL, device="cpu")
    return load_policy(recipe, seed=seed, corpus=lambda: CORPUS, tags=("<answer>", "</answer>"))


@torch.no_grad()
def _logprobs(policy: Policy) -> Tensor:
    """Of two completions of one prompt; any change of a weight shows."""
    noise = np.random.default_rng(3)
    prompt, first, second = (noise.integers(0, 200, size) for size in (20, 9, 6))
    tree = token_tree([(prompt, [first, second])])
    targets = torch.from_numpy(np.concatenate([first, second]))
    return tree_logprobs(policy, tree, targets)[0]


def _move(policy: Policy) -> None:
    """Change every weight that is trained."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("adapter", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_saved_policy_comes_back_the_same(architecture: str, adapter: str, tmp_path: Path) -> None:
    policy = _load(tiny_model_folder(tmp_path / "model", architecture), adapter=adapter)
    before = _logprobs(policy)
    _move(policy)
    save_policy(policy, tmp_path / "saved")
    again = _load(tmp_path / "saved", adapter=adapter)
    assert torch.equal(_logprobs(policy), _logprobs(again))
    assert not torch.allclose(_logprobs(policy), before)
    assert again.adapter == policy.adapter == (adapter == "lora")
    assert (again.eos_ids, again.end_id, again.max_positions) == (
        policy.eos_ids,
        policy.end_id,
        policy.max_positions,
    )
    trained = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
    assert trained == [name for name, parameter in again.model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_loaded_weights_are_aligned_as_fresh_ones_are(adapter: str, tmp_path: Path) -> None:
    # Mapped from a file they begin anywhere, and some processors' matrix products then differ in the last digits.
    policy = _load(tiny_model_folder(tmp_path / "model", "qwen3"), adapter=adapter)
    save_policy(policy, tmp_path / "saved")
    loaded = _load(tmp_path / "saved", adapter=adapter)
    assert {parameter.data_ptr() % 64 for parameter in loaded.model.parameters()} == {0}


def test_weights_are_read_as_transformers_reads_them_from_however_many_files(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder(tmp_path / "whole", "llama"))
    tiny_model_folder(tmp_path / "parts", "llama")
    (tmp_path / "parts/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "parts", max_shard_size="40KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    policy = _load(tmp_path / "parts", adapter="full")
    read, expected = policy.model.state_dict(), model.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_transformers_maps_files_again_once_a_policy_is_loaded(tmp_path: Path) -> None:
    before = modeling_utils.safe_open
    with read_not_mapped():
        assert modeling_utils.safe_open is not before
    with pytest.raises(PolicyError):
        _load(_cut(tiny_model_folder(tmp_path, "llama")) or tmp_path)
    assert modeling_utils.safe_open is before


def test_a_saved_adapter_is_small_and_loads_where_all_weights_are_asked_for(tmp_path: Path) -> None:
    """An adapter's folder stays an adapter: `evaluate` names a folder, not what is in it."""
    policy = _load(tiny_model_folder(tmp_path / "model", "qwen2"), lora_rank=2)
    _move(policy)
    save_policy(policy, tmp_path / "saved")
    assert not (tmp_path / "saved/model.safetensors").exists()
    loaded = _load(tmp_path / "saved", adapter="full")
    assert torch.equal(_logprobs(policy), _logprobs(loaded))
    assert "of the adapter there, on" in loaded.description


def test_a_saved_adapter_is_merged_and_a_new_one_trained_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANDROUNDS_CACHE", str(tmp_path / "cache"))
    first = _load(tiny_model_folder(tmp_path / "model", "qwen2"), lora_rank=2)
    _move(first)
    save_policy(first, tmp_path / "first")
    second = _load(tmp_path / "first", merge=True, lora_rank=3)
    torch.testing.assert_close(_logprobs(second), _logprobs(first), atol=1e-5, rtol=1e-5)
    ranks = {value.shape[0] for name, value in second.model.named_parameters() if "lora_A" in name}
    assert ranks == {3}
    _move(second)
    save_policy(second, tmp_path / "second")
    assert torch.equal(_logprobs(_load(tmp_path / "second")), _logprobs(second))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    recipe = Recipe(policy=PolicyRecipe(model=str(tmp_path / "first"), merge=True))
    assert not saved_policy(recipe, tmp_path / "second").merge


def test_an_adapter_saved_by_peft_alone_has_its_model_s_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANDROUNDS_CACHE", str(tmp_path / "cache"))
    policy = _load(tiny_model_folder(tmp_path / "model", "qwen2"), lora_rank=2)
    _move(policy)
    policy.model.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter/tokenizer.json").exists()
    assert torch.equal(_logprobs(_load(tmp_path / "adapter")), _logprobs(policy))
    merged = _load(tmp_path / "adapter", merge=True)
    torch.testing.assert_close(_logprobs(merged), _logprobs(policy), atol=1e-5, rtol=1e-5)


def test_one_adapter_on_two_bases_is_merged_into_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that was never trained has the same weights on every model of a shape."""
    monkeypatch.setenv("GRANDROUNDS_CACHE", str(tmp_path / "cache"))
    save_policy(_load(tiny_model_folder(tmp_path / "model", "qwen2"), lora_rank=2), tmp_path / "adapter")
    expected = _logprobs(_load(tmp_path / "adapter", merge=True))
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        other.get_output_embeddings().weight.mul_(2)
    other.save_pretrained(tmp_path / "model")  # another base in the same place
    moved = _logprobs(_load(tmp_path / "adapter", merge=True))
    assert not torch.allclose(moved, expected)
    torch.testing.assert_close(moved, _logprobs(_load(tmp_path / "adapter")), atol=1e-5, rtol=1e-5)


def test_pickled_weights_are_not_merged_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANDROUNDS_CACHE", str(tmp_path / "cache"))
    policy = _load(tiny_model_folder(tmp_path / "model", "qwen2"), lora_rank=2)
    save_policy(policy, tmp_path / "adapter")
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    (tmp_path / "model/model.safetensors").unlink()
    torch.save(weights, tmp_path / "model/pytorch_model.bin")
    with pytest.raises(PolicyError, match="cannot be loaded"):
        _load(tmp_path / "adapter", merge=True)


def test_what_is_no_adapter_is_not_merged(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no adapter to merge"):
        _load(tiny_model_folder(tmp_path, "llama"), merge=True)


def test_saved_folder_loads_with_transformers_alone(tmp_path: Path) -> None:
    policy = _scratch(0)
    save_policy(policy, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    row = torch.arange(5, 15)[None]
    logs = torch.log_softmax(model(input_ids=row).logits, -1)[0, 4:-1].gather(1, row[0, 5:, None])[:, 0]
    tree = token_tree([(row[0, :5].numpy(), [row[0, 5:].numpy()])])
    torch.testing.assert_close(tree_logprobs(policy, tree, row[0, 5:])[0], logs, atol=1e-5, rtol=1e-5)


def test_scratch_is_decided_by_the_seed() -> None:
    first, again, other = _scratch(1), _scratch(1), _scratch(2)
    assert torch.equal(_logprobs(first), _logprobs(again))
    assert not torch.allclose(_logprobs(first), _logprobs(other))
    assert first.tokenizer.get_vocab() == again.tokenizer.get_vocab()
    assert not first.adapter


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_loading_leaves_torchs_random_state_alone(adapter: str, tmp_path: Path) -> None:
    tiny_model_folder(tmp_path, "llama")
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    _scratch(1)
    _load(tmp_path, adapter=adapter)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_new_adapter_changes_nothing_at_first_and_is_decided_by_the_seed(tmp_path: Path) -> None:
    tiny_model_folder(tmp_path, "llama")
    lora, whole = _load(tmp_path), _load(tmp_path, adapter="full")
    assert torch.equal(_logprobs(lora), _logprobs(whole))
    again = _load(tmp_path)
    for one, two in zip(lora.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_reference_answers_as_the_policy_did_before_training(adapter: str, tmp_path: Path) -> None:
    policy = _load(tiny_model_folder(tmp_path, "qwen3"), adapter=adapter)
    policy.freeze_reference()
    before = _logprobs(policy)
    _move(policy)
    moved = _logprobs(policy)
    with policy.reference():
        assert torch.equal(_logprobs(policy), before)
    assert torch.equal(_logprobs(policy), moved)
    assert not torch.allclose(moved, before)
    # The frozen copy is neither trained nor saved.
    assert all("_frozen" not in name for name, _ in policy.model.named_parameters())


def test_policy_leaves_the_reference_even_after_an_error(tmp_path: Path) -> None:
    policy = _load(tiny_model_folder(tmp_path, "llama"))
    _move(policy)
    moved = _logprobs(policy)
    with pytest.raises(KeyError), policy.reference():
        raise KeyError
    assert torch.equal(_logprobs(policy), moved)


def test_dropout_is_off(tmp_path: Path) -> None:
    """Phi's folder asks for dropout; sampler and learner would disagree."""
    policy = _load(tiny_model_folder(tmp_path, "phi"))
    assert not policy.model.training
    assert torch.equal(_logprobs(policy), _logprobs(policy))


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2"])
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_bfloat16_loads_and_stays_near_float32(architecture: str, adapter: str, tmp_path: Path) -> None:
    tiny_model_folder(tmp_path, architecture)
    narrow = _load(tmp_path, adapter=adapter, precision="bfloat16")
    assert narrow.head().weight.dtype == torch.bfloat16
    assert "bfloat16" in narrow.description
    wide = _load(tmp_path, adapter=adapter)
    assert float((_logprobs(narrow) - _logprobs(wide)).abs().mean()) < 0.1


def test_what_is_computed_otherwise_is_refused_in_bfloat16_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = TreeLayout.attend

    def sharper(self: TreeLayout, *states: Any, **named: Any) -> Tensor:
        *rest, rule = states
        return attend(self, *rest, rule._replace(scale=4 * rule.scale), **named)

    tiny_model_folder(tmp_path, "qwen2")
    _load(tmp_path, adapter="full", precision="bfloat16")
    monkeypatch.setattr(TreeLayout, "attend", sharper)
    for precision in ("bfloat16", "float32"):
        with pytest.raises(PolicyError, match="not computed exactly"):
            _load(tmp_path, adapter="full", precision=precision)


@pytest.mark.parametrize(("shift", "fine"), [(0.05, True), (1.0, False)])
def test_in_bfloat16_likely_tokens_count_and_impossible_ones_do_not(shift: float, fine: bool) -> None:
    theirs = torch.log_softmax(torch.tensor([[8.0, 7.0, -20.0]]), -1)
    far = theirs + torch.tensor([[0.0, 0.0, 5.0]])  # by much, for a token of probability 1e-12
    near = far + torch.tensor([[shift, shift, 0.0]])
    apart, allowed = _difference(near, theirs, torch.bfloat16)
    assert (apart <= allowed) == fine
    assert _difference(far, theirs, torch.float32)[0] == pytest.approx(5.0)


def test_a_model_saved_in_bfloat16_is_trained_in_the_precision_asked_for(tmp_path: Path) -> None:
    tiny_model_folder(tmp_path / "model", "llama")
    policy = _load(tmp_path / "model", adapter="full", precision="bfloat16")
    save_policy(policy, tmp_path / "saved")
    again = _load(tmp_path / "saved", adapter="full", precision="float32")
    assert {parameter.dtype for parameter in again.model.parameters()} == {torch.float32}


def test_bfloat16_does_not_round_the_rotary_frequencies(tmp_path: Path) -> None:
    """Rounded to 8 bits, far positions would be turned by wrong angles."""
    tiny_model_folder(tmp_path, "llama")
    for adapter in ("full", "lora"):
        policy = _load(tmp_path, adapter=adapter, precision="bfloat16")
        assert policy.base.get_decoder().rotary_emb.inv_freq.dtype == torch.float32
    recipe = PolicyRecipe(scratch=SMALL, device="cpu", precision="bfloat16")
    scratch = load_policy(recipe, seed=0, corpus=lambda: CORPUS)
    assert scratch.head().weight.dtype == torch.bfloat16
    assert scratch.base.get_decoder().rotary_emb.inv_freq.dtype == torch.float32


def test_an_adapter_knows_its_base_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model_folder(tmp_path / "model", "llama")
    monkeypatch.chdir(tmp_path)
    policy = _load("model")
    _move(policy)
    save_policy(policy, tmp_path / "saved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(_logprobs(_load(tmp_path / "saved")), _logprobs(policy))


def test_longrope_ends_where_all_rotations_would_change(tmp_path: Path) -> None:
    factors = [1.0] * 4
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": factors,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 64,
    }
    changes = {"rope_parameters": rope, "original_max_position_embeddings": 64}
    assert _load(tiny_model_folder(tmp_path, "phi3", **changes)).max_positions == 64


# --- What cannot be used ----------------------------------------------------------------------------------------


def _without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _holding(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: folder.joinpath(name).write_text(text)


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def test_a_run_in_place_of_a_model_names_its_checkpoint(tmp_path: Path) -> None:
    tiny_model_folder(tmp_path / "run/checkpoints/000003", "qwen2")
    with pytest.raises(PolicyError) as raised:
        load_policy(PolicyRecipe(model=str(tmp_path / "run")), seed=0)
    assert raised.value.hint.endswith(f"Name one of its checkpoints: {tmp_path / 'run/checkpoints/000003'}")


UP = "model.layers.1.mlp.up_proj.weight"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty folder": (_emptied, "no config.json"),
    "no folder": (shutil.rmtree, "no such model folder"),
    "no config": (_without("config.json"), "no config.json"),
    "no weights": (_without("model.safetensors"), "cannot be loaded"),
    "no tokenizer": (_without("tokenizer.json"), "cannot be loaded"),
    "broken config": (_holding("config.json", "{broken"), "cannot be loaded"),
    "config of nothing": (_holding("config.json", "{}"), "cannot be loaded"),
    "broken tokenizer": (_holding("tokenizer.json", "{broken"), "cannot be loaded"),
    "truncated weights": (_cut, "cannot be loaded"),
    "one weight lacking": (_weights(lambda tensors: tensors.pop(UP)), f"weights are missing: {UP}"),
    "one weight misshaped": (
        _weights(lambda tensors: tensors.update({UP: torch.ones(3, 3)})),
        "cannot be loaded",
    ),
    "weights not finite": (_weights(lambda tensors: tensors[UP].fill_(torch.nan)), "not finite"),
    "broken adapter": (_holding("adapter_config.json", "{broken"), "cannot be loaded"),
    "adapter of nothing": (_holding("adapter_config.json", "{}"), "cannot be loaded"),
    "adapter of a model that is gone": (
        _holding("adapter_config.json", json.dumps({"base_model_name_or_path": "/gone/model"})),
        "/gone/model",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_policy_error(damage: str, tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", "llama")
    break_it, said = DAMAGES[damage]
    break_it(folder)
    with pytest.raises(PolicyError) as caught:
        _load(folder)
    assert said in caught.value.what
    assert caught.value.where == str(folder)
    assert caught.value.hint


def test_a_truncated_adapter_is_one_policy_error(tmp_path: Path) -> None:
    save_policy(_load(tiny_model_folder(tmp_path / "model", "llama")), tmp_path / "saved")
    file = tmp_path / "saved/adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(PolicyError, match="cannot be loaded"):
        _load(tmp_path / "saved")


def test_an_adapter_that_lacks_a_weight_is_one_policy_error(tmp_path: Path) -> None:
    save_policy(_load(tiny_model_folder(tmp_path / "model", "llama")), tmp_path / "saved")
    tensors = load_file(tmp_path / "saved/adapter_model.safetensors")
    del tensors[min(tensors)]
    save_file(tensors, tmp_path / "saved/adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match="missing adapter keys"):
        _load(tmp_path / "saved")


def test_a_hub_name_without_network_is_one_policy_error() -> None:
    with pytest.raises(PolicyError, match="nobody/no-such-model"):
        _load("nobody/no-such-model")


def test_lora_targets_that_the_model_lacks_are_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no_such_module") as caught:
        _load(tiny_model_folder(tmp_path, "llama"), lora_targets=["no_such_module"])
    assert caught.value.where == "policy.lora_targets"


def test_lora_on_the_output_layer_is_a_recipe_error(tmp_path: Path) -> None:
    """The chunked head reads that layer's own weights: an adapter there would never be seen."""
    with pytest.raises(RecipeError, match="output layer"):
        _load(tiny_model_folder(tmp_path, "llama"), lora_targets=["q_proj", "lm_head"])


def test_a_saved_adapter_on_the_output_layer_is_one_policy_error(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder(tmp_path / "model", "llama"))
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"])
    get_peft_model(model, config).save_pretrained(tmp_path / "saved", save_embedding_layers=False)
    tiny_tokenizer(FAMILIES["llama"]).save_pretrained(tmp_path / "saved")
    with pytest.raises(PolicyError, match="output layer"):
        _load(tmp_path / "saved")


TINY = {"hidden_size": 32, "num_hidden_layers": 2}
HEADS = {**TINY, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
UNSUPPORTED = {
    "mamba": (MambaConfig, {**TINY, "state_size": 4}),
    "bloom": (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon with ALiBi": (FalconConfig, {**TINY, "num_attention_heads": 4, "alibi": True}),
    "granite, whose logits are scaled": (GraniteConfig, {**HEADS, "logits_scaling": 8.0}),
    # Convolutions with small weights: within any numeric tolerance, and wrong all the same.
    "lfm2, half convolutions": (
        Lfm2Config,
        {**HEADS, "layer_types": ["conv", "full_attention"], "initializer_range": 0.002, "pad_token_id": 0},
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_architecture_we_do_not_compute_exactly_is_refused(name: str, tmp_path: Path) -> None:
    config, options = UNSUPPORTED[name]
    tokenizer = tiny_tokenizer(FAMILIES["qwen2"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config(vocab_size=len(tokenizer), eos_token_id=2, **options))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match="architecture") as caught:
        _load(tmp_path, adapter="full")
    assert caught.value.where == str(tmp_path)
    assert "Llama" in caught.value.hint
