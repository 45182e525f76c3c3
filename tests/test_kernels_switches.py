"""Every kernel can be switched off, alone or with all others, and nothing is learnt or sampled otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grpo_support import gradients, worst_relative_difference
from sampling_support import KEY, all_tokens, beginning_alike, make_prompts, sample
from tiny_models import FAMILIES, tiny_model_folder
from torch import Tensor

from grandrounds import load_recipe, train
from grandrounds.algorithm.grpo import Round
from grandrounds.errors import RecipeError
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.policy.load import load_policy
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.policy.model import Policy
from grandrounds.recipe import KernelsRecipe, PolicyRecipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings

SWITCHES = tuple(KernelsRecipe.model_fields)
SETTINGS = SamplingSettings(max_new_tokens=20)


def switched(*on: str) -> KernelsRecipe:
    """These kernels and no others."""
    return KernelsRecipe(**{name: name in on for name in SWITCHES})


def policy_with(kernels: KernelsRecipe, folder: Path, architecture: str, adapter: str) -> Policy:
    """With an adapter that does something; in float64 where transformers' own attention computes padded rows in it."""
    if not folder.exists():
        tiny_model_folder(folder, architecture)
    recipe = PolicyRecipe(
        model=str(folder),
        adapter=adapter,
        lora_rank=4,
        precision="float32" if architecture == "gemma2" else "float64",
        device="cpu",
        kernels=kernels,
    )
    policy = load_policy(recipe, seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    policy.eos_ids = frozenset(range(100, 112))  # so that rows end soon and unevenly
    return policy


def sampled_and_learnt(policy: Policy) -> tuple[list[list[int]], dict[str, Tensor]]:
    """Tokens of a round, and the gradient of their log-probs, each token's with a weight of its own."""
    prompts = beginning_alike(make_prompts(policy), 33)
    groups = sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY)
    tree = token_tree([(g.prompt.tokens, [c.tokens for c in g.completions]) for g in groups])
    targets = torch.from_numpy(np.concatenate([c.tokens for g in groups for c in g.completions]))
    logprobs, entropy = tree_logprobs(policy, tree, targets, temperature=0.7)
    assert not entropy.requires_grad
    (logprobs * torch.linspace(-1, 2, len(logprobs))).sum().backward()
    return all_tokens(groups), gradients(policy.model)


@pytest.mark.parametrize("adapter", ["full", "lora"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_each_kernel_alone_samples_and_learns_what_plain_transformers_does(
    architecture: str, adapter: str, tmp_path: Path
) -> None:
    plain = sampled_and_learnt(policy_with(switched(), tmp_path / "model", architecture, adapter))
    for on in (*((name,) for name in SWITCHES), SWITCHES):
        tokens, learnt = sampled_and_learnt(
            policy_with(switched(*on), tmp_path / "model", architecture, adapter)
        )
        assert tokens == plain[0], on
        assert worst_relative_difference(learnt, plain[1]) < 1e-4, on


def test_without_kernels_no_module_is_changed(tmp_path: Path) -> None:
    policy = policy_with(switched(), tmp_path / "model", "qwen2", "lora")
    assert not any("forward" in vars(module) for module in policy.model.modules())
    assert policy.base.config._attn_implementation == "sdpa"


def letters(completions: list[str], **_: Any) -> list[float]:
    """A reward that even an untrained model gets at times."""
    return [text.count("a") / (1 + len(text)) for text in completions]


def test_a_clinic_run_learns_the_same_with_all_kernels_and_with_none(tmp_path: Path) -> None:
    settings = [
        "cases.clinic_train=60",
        "cases.clinic_test=10",
        "policy.scratch={layers: 2, hidden: 32, heads: 2, feedforward: 64, vocabulary: 400}",
        "policy.precision=float64",
        "policy.device=cpu",
        "sft.steps=4",
        "sft.batch_cases=4",
        "sft.reasoning=false",
        "rounds=2",
        "grpo.cases_per_round=3",
        "grpo.group_size=3",
        "grpo.max_new_tokens=24",
        "guard.enabled=false",
    ]
    runs = []
    for value in ("true", "false"):
        switches = [f"policy.kernels.{name}={value}" for name in SWITCHES]
        rounds: list[Round] = []
        recipe = load_recipe("clinic", [*settings, *switches])
        train(recipe, tmp_path / value, rewards=letters, callbacks=[rounds.append])
        runs.append(rounds)
    assert [len(rounds) for rounds in runs] == [2, 2]
    for number, (one, other) in enumerate(zip(*runs, strict=True)):
        assert one.metrics["grad_norm"] > 0
        for name in ("loss", "grad_norm", "entropy"):
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4, abs=1e-8), (number, name)
        tokens = [all_tokens([group.group for group in done.groups]) for done in (one, other)]
        assert tokens[0] == tokens[1]


def test_recomputed_feed_forward_blocks_need_their_kernel() -> None:
    with pytest.raises(RecipeError, match=r"feed_forward is done by policy\.kernels\.fused"):
        load_recipe("clinic", ["policy.recompute=feed_forward", "policy.kernels.fused=false"])
