"""Sampling and training on a GPU do what they do on a CPU; and go on, after a stop, with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sampling_support import KEY, make_policy, make_prompts, sample
from test_training_changes import recipe, rows
from tiny_models import FAMILIES

from bench.plain import plain_logprobs
from grandrounds.recipe import ScratchRecipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run, resume, train

SILENT = SilentProgress()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def trained(device: str, precision: str, folder: Path, rounds: int = 3) -> Run:
    settings = recipe(rounds=rounds, sft={"steps": 5, "batch_cases": 4})
    small = {"layers": 2, "hidden": 64, "heads": 4, "feedforward": 128, "vocabulary": 300}
    changes = {"device": device, "precision": precision, "scratch": ScratchRecipe(**small)}
    settings = settings.model_copy(update={"policy": settings.policy.model_copy(update=changes)})
    return train(settings, folder, cases=rows(24), rewards=shorter, progress=SILENT)


def shorter(completions: list[str], **columns: Any) -> list[float]:
    return [1 / (1 + len(text)) for text in completions]


def weights(run: Run) -> bytes:
    return (run.folder / f"checkpoints/{run.rounds:06d}/model.safetensors").read_bytes()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_sampled_log_probs_are_what_the_model_says_on_a_cpu(
    architecture: str, device: str, tmp_path: Path
) -> None:
    policy = make_policy(tmp_path / "here", architecture, ends=12, device=device)
    prompts = make_prompts(policy)
    groups = sample(NativeSampler(policy), prompts, 3, SamplingSettings(max_new_tokens=40), KEY)
    plain = make_policy(tmp_path / "there", architecture, ends=12)
    for group in groups:
        pairs = [(group.prompt.tokens, completion.tokens) for completion in group.completions]
        with torch.no_grad():
            expected = plain_logprobs(plain, pairs)
        for completion, row in zip(group.completions, expected, strict=True):
            np.testing.assert_allclose(completion.logprobs, row.numpy(), atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "allowed"), [("float32", 1e-3), ("bfloat16", 0.5)])
def test_a_run_on_a_gpu_has_ratios_of_1_and_goes_on_with_the_same_bits(
    precision: str, allowed: float, device: str, tmp_path: Path
) -> None:
    whole = trained(device, precision, tmp_path / "whole")
    found = RunFolder.open(whole.folder).metrics()
    assert len(found) == 3
    assert all(row["sampling/ratio_error"] < allowed for row in found)
    assert any(row["grad_norm"] > 0 for row in found)
    begun = trained(device, precision, tmp_path / "begun", rounds=2)
    longer = resume(begun.folder, ["rounds=3"], cases=rows(24), rewards=shorter, progress=SILENT)
    assert weights(longer) == weights(whole)
