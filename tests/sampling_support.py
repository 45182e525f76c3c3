"""Policies, prompts and comparisons that the sampler's tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tiny_models import tiny_model_folder

from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import PolicyRecipe
from grandrounds.sampling.sampler import Key, Sampler, SamplingSettings, in_order
from grandrounds.types import Answer, Case, Group, Prompt

# Prompts shorter and longer than the windows of the families that have one (12 and 16).
LENGTHS = (5, 23, 14, 1, 30)
KEY = (7, 3)
SAMPLED = SamplingSettings(max_new_tokens=20)


def make_policy(folder: Path, architecture: str, *, ends: int = 0, device: str = "cpu") -> Policy:
    """A policy over all weights. With `ends`, that many tokens end a response, so that rows end soon and unevenly."""
    tiny_model_folder(folder, architecture)
    policy = load_policy(
        PolicyRecipe(model=str(folder), adapter="full", device=device, precision="float32"), seed=0
    )
    return dataclasses.replace(policy, eos_ids=frozenset(range(100, 100 + ends))) if ends else policy


def make_prompts(policy: Policy, lengths: Sequence[int] = LENGTHS) -> list[Prompt]:
    noise = np.random.default_rng(0)
    return [
        Prompt(
            Case(id=f"case-{index}", question="?", gold=Answer(kind="text", text="!")),
            noise.integers(5, len(policy.tokenizer), length),
            "",
        )
        for index, length in enumerate(lengths)
    ]


def beginning_alike(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """With so many tokens in front that all share."""
    shared = np.random.default_rng(1).integers(5, 100, count)
    return [dataclasses.replace(prompt, tokens=np.concatenate([shared, prompt.tokens])) for prompt in prompts]


def sample(
    sampler: Sampler, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key
) -> list[Group]:
    """The groups in the order of their prompts."""
    return in_order(prompts, sampler.sample(prompts, n, settings, key))


def all_tokens(groups: Sequence[Group]) -> list[list[int]]:
    return [completion.tokens.tolist() for group in groups for completion in group.completions]


def assert_same(one: Sequence[Group], other: Sequence[Group], *, atol: float = 1e-5) -> None:
    """The same tokens, and log-probs but for floating-point noise."""
    assert all_tokens(one) == all_tokens(other)
    for first, second in zip(one, other, strict=True):
        for here, there in zip(first.completions, second.completions, strict=True):
            np.testing.assert_allclose(here.logprobs, there.logprobs, atol=atol)
            assert (here.text, here.finish) == (there.text, there.finish)
