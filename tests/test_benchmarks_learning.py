"""Transformers' own sampler draws from the policy, and the table of two paths' curves."""

from __future__ import annotations

from typing import Any

import learning
import numpy as np
import torch
from grpo_support import (
    ragged_groups,
    tiny_model,
    tiny_policy,
)
from sampling_support import sample

from bench.plain import PlainSampler, plain_logprobs
from grandrounds.sampling.sampler import SamplingSettings


class Words:
    """A tokenizer of which only this much is asked."""

    def decode(self, tokens: np.ndarray, **_: Any) -> str:
        return " ".join(map(str, tokens))


def test_the_plain_sampler_ends_completions_and_knows_their_probabilities() -> None:
    policy = tiny_policy(tiny_model("qwen2", dtype=torch.float32))
    policy.tokenizer = Words()
    prompts = [group.prompt for group in ragged_groups(2)]
    settings = SamplingSettings(30, temperature=0.9)
    groups = sample(PlainSampler(policy), prompts, 6, settings, (0, 1))
    assert [group.prompt for group in groups] == prompts
    completions = [(group.prompt, c) for group in groups for c in group.completions]
    assert {completion.finish for _, completion in completions} == {"stop", "length"}
    for prompt, completion in completions:
        assert (completion.tokens[:-1] != 0).all()
        assert (completion.tokens[-1] == 0) == (completion.finish == "stop")
        (expected,) = plain_logprobs(policy, [(prompt.tokens, completion.tokens)], 0.9)
        np.testing.assert_allclose(completion.logprobs, expected.detach().numpy(), rtol=1e-5)
    again = sample(PlainSampler(policy), prompts, 6, settings, (0, 1))
    other = sample(PlainSampler(policy), prompts, 6, settings, (0, 2))
    assert _tokens(again) == _tokens(groups) != _tokens(other)


def test_the_table_pairs_seeds() -> None:
    def curve(*rewards: float) -> list[dict[str, float]]:
        return [{"reward": reward, "accuracy": 0.5, "seconds": 1.0} for reward in rewards]

    curves = {"fast": [curve(0.2, 0.6), curve(0.4, 0.8)], "plain": [curve(0.1, 0.6), curve(0.3, 0.6)]}
    head, first, second, overall, seconds = learning.table(curves)
    assert "difference" in head
    assert first.split()[:6] == ["1", "0.300", "0.200", "+0.100", "±", "0.000"]
    assert second.split()[:6] == ["2", "0.700", "0.600", "+0.100", "±", "0.100"]
    assert "+0.100 ± 0.050" in overall
    assert "fast 1.00, plain 1.00" in seconds


def _tokens(groups: list[Any]) -> list[list[int]]:
    return [completion.tokens.tolist() for group in groups for completion in group.completions]
