"""Every family that is meant to work trains: two rounds from a folder, with LoRA and whole, saved and loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model_folder

from grandrounds.api import evaluate
from grandrounds.recipe_file import recipe_from
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import train

# A tiny random model answers nothing right: a reward that tells any two completions apart stands in.
REWARD = """
def checksum(samples):
    return [sum((i + 1) * token for i, token in enumerate(sample.completion.tokens)) % 97 / 97 for sample in samples]
"""
WEIGHTS = {"full": "model.safetensors", "lora": "adapter_model.safetensors"}


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma2", "mistral", "phi3"])
def test_two_rounds_move_the_weights_and_the_checkpoint_loads(
    architecture: str, adapter: str, tmp_path: Path
) -> None:
    (tmp_path / "reward.py").write_text(REWARD)
    recipe = recipe_from(
        {
            "rounds": 2,
            "cases": {"source": "clinic", "clinic_train": 16, "clinic_test": 4},
            "policy": {
                "model": str(tiny_model_folder(tmp_path / "model", architecture)),
                "adapter": adapter,
                "lora_rank": 4,
                "device": "cpu",
            },
            # A few words: the byte-wise prompts of the tiny tokenizer are long enough.
            "prompt": {"system": "Answer in <answer>."},
            "grpo": {
                "group_size": 2,
                "cases_per_round": 2,
                "max_new_tokens": 8,
                "learning_rate": 1e-3,
                "beta": 0.01,
            },
            "rewards": {"checksum": {"use": f"{tmp_path / 'reward.py'}:checksum"}},
            "checkpoint": {"every": 1},
            "guard": {"enabled": False},
        }
    )
    run = train(recipe, tmp_path / "run", progress=SilentProgress())
    assert run.finished

    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert row["sampling/ratio_error"] < 1e-4
        assert row["grad_norm"] > 0
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["kl"] > 0

    before, after = (
        load_file(run.folder / "checkpoints" / number / WEIGHTS[adapter]) for number in ("000000", "000002")
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)

    for policy in (run.folder, run.folder / "checkpoints" / "000001"):
        evaluation = evaluate(policy, "clinic", limit=2)
        assert evaluation.count == 2
