"""A rehearsal on tensors without memory keeps what the real computation keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, tiny_model_folder

from grandrounds.errors import PolicyError
from grandrounds.kernels import fused
from grandrounds.kernels.shared_prefix.layout import TreeLayout
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.planning import rehearsal
from grandrounds.planning.rehearsal import LiveBytes, token_costs
from grandrounds.policy.load import configuration, load_policy
from grandrounds.policy.outline import parameter_bytes, weightless
from grandrounds.recipe import PolicyRecipe

GROUP = (24, 3, 16)  # prompt tokens, completions, completion tokens
GROUPS = 29  # as the smaller pack that is rehearsed


def folder(tmp_path: Path, architecture: str) -> PolicyRecipe:
    changes = {"num_hidden_layers": 3}
    if FAMILIES[architecture].options.get("layer_types"):
        changes["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
    return PolicyRecipe(model=str(tiny_model_folder(tmp_path / architecture, architecture, **changes)))


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_rehearsed_bytes_are_those_of_the_real_computation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str, adapter: str
) -> None:
    monkeypatch.setattr(fused, "PART_BYTES", 0)  # so narrow a model would take all rows as one part
    recipe = folder(tmp_path, architecture).model_copy(update={"adapter": adapter, "lora_rank": 4})
    policy = load_policy(recipe, seed=0)
    prompt, size, completion = GROUP
    branch = (np.ones(prompt, np.int64), [np.ones(completion, np.int64)] * size)
    tree = token_tree([branch] * GROUPS)
    layout = TreeLayout(tree)
    with LiveBytes() as live:
        states = policy.hidden(tree.tokens, tree.positions, layout).index_select(0, tree.source)
        kept = live.now
        states.backward(torch.ones_like(states))
    costs = token_costs(recipe, configuration(recipe, 0), torch.float32, GROUP)
    assert costs.kept * tree.size == pytest.approx(kept, rel=0.01)
    gradients = parameter_bytes(policy.model)[1]  # which do not grow with tokens
    passing = costs.passing * tree.size + costs.fixed
    assert 0 < passing <= (live.most - kept) * 1.05 + gradients
    assert live.most - kept <= passing * 1.05 + gradients
    assert 0 < costs.prefill < costs.kept


@pytest.mark.parametrize("architecture", FAMILIES)
def test_of_offloaded_layers_nothing_is_kept(tmp_path: Path, architecture: str) -> None:
    recipe = folder(tmp_path, architecture)
    config = configuration(recipe, 0)
    layers, offload = (
        token_costs(recipe.model_copy(update={"recompute": recompute}), config, torch.float32, GROUP)
        for recompute in ("layers", "offload")
    )
    states = 4 * config.get_text_config().hidden_size
    assert layers.kept - offload.kept == pytest.approx(3 * states, rel=0.01)  # each layer's input
    assert offload.passing == pytest.approx(layers.passing, abs=2 * states)  # what comes back passes
    assert offload.prefill == layers.prefill


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


def test_a_rehearsal_takes_no_memory_for_its_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = folder(tmp_path, "qwen2")
    few = token_costs(recipe, configuration(recipe, 0), torch.float32, GROUP)
    monkeypatch.setattr(rehearsal, "TOKENS", 2**14)
    many = token_costs(recipe, configuration(recipe, 0), torch.float32, GROUP)
    assert many.kept == pytest.approx(few.kept, rel=0.01)


def test_bfloat16_halves_what_lora_does_not_widen(tmp_path: Path) -> None:
    recipe = folder(tmp_path, "qwen2").model_copy(update={"adapter": "full"})
    config = configuration(recipe, 0)
    wide, narrow = (token_costs(recipe, config, dtype, GROUP) for dtype in (torch.float32, torch.bfloat16))
    assert wide.kept / 2 <= narrow.kept < 0.8 * wide.kept


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_weights_are_counted_without_being_there(tmp_path: Path, architecture: str) -> None:
    recipe = folder(tmp_path, architecture).model_copy(update={"lora_rank": 4})
    model, _ = weightless(recipe, configuration(recipe, 0), torch.float32)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert parameter_bytes(model) == parameter_bytes(load_policy(recipe, seed=0).model)


def test_a_model_that_looks_at_its_numbers_cannot_be_planned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def routed(self: object, *_: object) -> torch.Tensor:
        return torch.zeros(int(torch.ones(3).sum()))

    monkeypatch.setattr(rehearsal.Policy, "hidden", routed)
    recipe = folder(tmp_path, "qwen2")
    with pytest.raises(PolicyError, match="cannot be planned"):
        token_costs(recipe, configuration(recipe, 0), torch.float32, GROUP)
