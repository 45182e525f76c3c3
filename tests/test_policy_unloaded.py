"""What is known of a policy without its weights is what the loaded policy says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import FAMILIES, tiny_model_folder

from grandrounds.policy.load import load_policy
from grandrounds.policy.unloaded import unloaded
from grandrounds.recipe import PolicyRecipe

OWN = 77


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("generation", [True, False])
def test_end_tokens_and_context_are_known_without_the_weights(
    family: str, generation: bool, tmp_path: Path
) -> None:
    tiny_model_folder(tmp_path, family)
    settings = tmp_path / "generation_config.json"
    if generation:  # it names an end token that no other file does
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token_id": [OWN]}))
    else:
        settings.unlink()
    recipe = PolicyRecipe(model=str(tmp_path), adapter="full", device="cpu", precision="float32")
    policy = load_policy(recipe, seed=0)
    (tmp_path / "model.safetensors").unlink()
    known = unloaded(recipe)
    assert known.model == str(tmp_path)
    assert known.eos_ids == policy.eos_ids
    assert (OWN in known.eos_ids) == generation
    assert known.max_positions == policy.max_positions
    assert known.tokenizer.get_vocab() == policy.tokenizer.get_vocab()
    assert known.tokenizer.chat_template == policy.tokenizer.chat_template
