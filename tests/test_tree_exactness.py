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
    agreeing_groups,
    everything_in_double,
    gradients,
    plain_logprobs,
    ragged_groups,
    tiny_model,
    tiny_policy,
    worst_relative_difference,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from grandrounds.kernels.shared_prefix.tree import TokenTree, token_tree
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.types import Group

TEMPERATURE = 0.7


@pytest.fixture
def double() -> Iterator[None]:
    with everything_in_double():
        yield


def _packed(
    model: torch.nn.Module, groups: list[Group], loss_weights: Tensor, *, merge: bool = False
) -> tuple[Tensor, Tensor, dict]:
    branches = [(g.prompt.tokens, [c.tokens for c in g.completions]) for g in groups]
    tree = token_tree(branches, merge=merge)
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
def test_merged_completions_have_the_gradients_of_separate_ones(architecture: str, double: None) -> None:
    groups = agreeing_groups(3)
    weights = _case(groups)
    ours = _packed(tiny_model(architecture), groups, weights, merge=True)
    theirs = _plain(tiny_model(architecture, attention="eager"), groups, weights)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-10, atol=1e-10)
    assert worst_relative_difference(ours[2], theirs[2]) < 1e-10


TOKENS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=5), min_size=1, max_size=6)


@given(st.lists(TOKENS, min_size=1, max_size=3))
def test_a_merged_tree_predicts_every_completion_token_after_what_precedes_it(
    groups: list[list[list[int]]],
) -> None:
    prompts = [np.array([7, 8, 9][: 1 + n]) for n in range(len(groups))]
    completions = [[np.array(one) for one in group] for group in groups]
    tree = token_tree(list(zip(prompts, completions, strict=True)), merge=True)
    whole = {  # row -> the tokens up to it
        row: np.concatenate([before, tree.tokens[0, first : row + 1].numpy()]).tolist()
        for before, first, length in _sequences(tree)
        for row in range(first, first + length)
    }
    expected = [
        [*prompt, *one[:place]]
        for prompt, group in zip(prompts, completions, strict=True)
        for one in group
        for place in range(len(one))
    ]
    assert [whole[int(row)] for row in tree.source[tree.copies]] == expected
    assert tree.size <= sum(len(p) + sum(map(len, g)) for p, g in zip(prompts, completions, strict=True))
    assert all(int(tree.positions[0, row]) == len(tokens) - 1 for row, tokens in whole.items())


def _sequences(tree: TokenTree) -> Iterator[tuple[np.ndarray, int, int]]:
    """What precedes each run of rows, its first row, and its length."""
    flat = tree.tokens[0].numpy()
    for first, length in zip(tree.prompt_starts, tree.prompt_lengths, strict=True):
        yield flat[:0], first, length
    for first, length, parent in zip(tree.starts, tree.lengths, tree.parent, strict=True):
        start = tree.prompt_starts[parent]
        yield flat[start : start + tree.prompt_lengths[parent]], first, length


def test_what_completions_share_is_computed_once() -> None:
    prompt, same = np.array([1, 2, 3]), [4, 5, 6]
    group = [np.array([*same, 7]), np.array([*same, 8, 9]), np.array([*same, 7]), np.array([*same, 7])]
    assert token_tree([(prompt, group)], merge=True).size == 3 + 3 + 1 + 2
    assert token_tree([(prompt, [group[0]] * 8)], merge=True).size == 3 + 4
    assert token_tree([(prompt, group)]).size == 3 + 4 + 5 + 4 + 4


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
