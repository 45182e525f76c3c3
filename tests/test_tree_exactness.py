"""The packed, shared-prefix, chunked computation equals the plain one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from grpo_support import (
    CONFIGS,
    VOCABULARY,
    everything_in_double,
    gradients,
    plain_logprobs,
    ragged_groups,
    tiny_model,
    tiny_policy,
    worst_relative_difference,
)
from torch import Tensor

from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.types import Group

TEMPERATURE = 0.7


@pytest.fixture
def double() -> Iterator[None]:
    with everything_in_double():
        yield


def _packed(model: torch.nn.Module, groups: list[Group], loss_weights: Tensor) -> tuple[Tensor, Tensor, dict]:
    tree = token_tree([(g.prompt.tokens, [c.tokens for c in g.completions]) for g in groups])
    targets = torch.from_numpy(np.concatenate([c.tokens for g in groups for c in g.completions]))
    logprobs, entropy = tree_logprobs(tiny_policy(model), tree, targets, temperature=TEMPERATURE)
    (logprobs * loss_weights.to(logprobs.dtype)).sum().backward()
    return logprobs.detach(), entropy, gradients(model)


def _plain(model: torch.nn.Module, groups: list[Group], loss_weights: Tensor) -> tuple[Tensor, Tensor, dict]:
    each = [
        plain_logprobs(model, g.prompt.tokens, c.tokens, TEMPERATURE) for g in groups for c in g.completions
    ]
    logprobs = torch.cat([one for one, _ in each])
    (logprobs * loss_weights.to(logprobs.dtype)).sum().backward()
    return logprobs.detach(), torch.cat([one for _, one in each]).detach(), gradients(model)


def _case(groups: list[Group]) -> Tensor:
    count = sum(len(c.tokens) for g in groups for c in g.completions)
    return torch.from_numpy(np.random.default_rng(9).normal(size=count))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_packed_gradients_equal_plain_ones_in_float64(architecture: str, double: None) -> None:
    groups = ragged_groups(1)
    groups[1] = Group(groups[1].prompt, groups[1].completions[:1])
    weights = _case(groups)
    ours = _packed(tiny_model(architecture), groups, weights)
    theirs = _plain(tiny_model(architecture, attention="eager"), groups, weights)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours[1], theirs[1].detach(), rtol=1e-10, atol=1e-10)
    assert worst_relative_difference(ours[2], theirs[2]) < 1e-10


@pytest.mark.parametrize("architecture", CONFIGS)
def test_groups_of_one_shape_beside_others_equal_plain_ones(architecture: str, double: None) -> None:
    def group(prompt: int, *lengths: int) -> Group:
        tokens = np.random.default_rng(prompt).integers(1, VOCABULARY, 99)
        longest = ragged_groups(1)[0]
        return Group(
            replace(longest.prompt, tokens=tokens[:prompt]),
            tuple(replace(longest.completions[0], tokens=tokens[length : 2 * length]) for length in lengths),
        )

    groups = [group(4, 3, 3), group(6, 5, 5, 5), group(6, 5, 5, 5), group(6, 5, 5, 2), group(3, 1, 9, 9, 2)]
    weights = _case(groups)
    ours = _packed(tiny_model(architecture), groups, weights)
    theirs = _plain(tiny_model(architecture, attention="eager"), groups, weights)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-10, atol=1e-10)
    assert worst_relative_difference(ours[2], theirs[2]) < 1e-10


@pytest.mark.parametrize("architecture", CONFIGS)
def test_packed_gradients_equal_plain_ones_in_float32(architecture: str) -> None:
    groups = ragged_groups(2, groups=2)
    weights = _case(groups)
    ours = _packed(tiny_model(architecture, dtype=torch.float32), groups, weights)
    theirs = _plain(tiny_model(architecture, attention="eager", dtype=torch.float32), groups, weights)
    assert worst_relative_difference(ours[2], theirs[2]) < 1e-5


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2"])
def test_lora_gradients_equal_plain_ones(architecture: str, double: None) -> None:
    from peft import LoraConfig, get_peft_model

    groups = ragged_groups(3)
    weights = _case(groups)
    results = []
    for attention, compute in (("grandrounds", _packed), ("eager", _plain)):
        torch.manual_seed(5)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(tiny_model(architecture, attention=attention), config)
        results.append(compute(model.eval(), groups, weights)[2])
    assert all("lora" in name for name in results[0])
    assert worst_relative_difference(*results) < 1e-10


def test_positions_restart_after_the_prompt_for_each_completion() -> None:
    tree = token_tree([(np.arange(3), [np.arange(4), np.arange(2)]), (np.arange(2), [np.arange(1)])])
    assert tree.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 3, 4, 0, 1, 2]
    assert tree.source.tolist() == [2, 3, 4, 5, 2, 7, 10]
    assert tree.parent.tolist() == [0, 0, 1]


def test_siblings_do_not_see_one_another() -> None:
    model = tiny_model("llama")
    prompt, a, b, other = np.array([1, 2]), np.array([3, 4]), np.array([5, 6, 7]), np.array([9, 9, 9])
    targets = torch.from_numpy(np.concatenate([a, b]))

    def logprobs(second: np.ndarray) -> Tensor:
        tree = token_tree([(prompt, [a, second])])
        return tree_logprobs(tiny_policy(model), tree, targets)[0][: len(a)]

    assert torch.equal(logprobs(b), logprobs(other))
