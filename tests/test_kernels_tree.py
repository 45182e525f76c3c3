"""Attention over a tree of sequences: what is visible, which blocks are computed, and the results.

On a CPU torch computes FlexAttention plainly and refuses gradients, although its plain computation has them: here they
are let through. So all is tested but the kernels themselves, which are where there is a GPU. And attention by sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from grpo_support import (
    CONFIGS,
    everything_in_double,
    gradients,
    plain_logprobs,
    ragged_groups,
    tiny_model,
    tiny_policy,
    worst_relative_difference,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import flex_attention as torch_flex

from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix import cuda as flex
from grandrounds.kernels.shared_prefix.layout import visible_rows
from grandrounds.kernels.shared_prefix.sequences import attend_by_sequence
from grandrounds.kernels.shared_prefix.tree import TokenTree, token_tree
from grandrounds.policy.logprobs import tree_logprobs

SHAPES = st.lists(
    st.tuples(st.integers(1, 150), st.lists(st.integers(1, 150), min_size=1, max_size=3)),
    min_size=1,
    max_size=3,
)


def tree_of(shapes: list[tuple[int, list[int]]], device: str = "cpu") -> TokenTree:
    """A tree of prompts and completions of these lengths."""
    branches = [(np.zeros(prompt), [np.zeros(size) for size in sizes]) for prompt, sizes in shapes]
    return token_tree(branches, device)


def visible_pairs(tree: TokenTree, window: int | None) -> np.ndarray:
    """[S, S] by the definition: same group, the key of the prompt or of the query's own completion, not later."""
    group, branch = np.empty((2, tree.size), np.int64)
    for index, (start, length) in enumerate(zip(tree.prompt_starts, tree.prompt_lengths, strict=True)):
        group[start : start + length], branch[start : start + length] = index, -1
    for index, (start, length) in enumerate(zip(tree.starts, tree.lengths, strict=True)):
        group[start : start + length], branch[start : start + length] = tree.parent[index], index
    position = tree.positions[0].cpu().numpy()
    back = position[:, None] - position
    related = (group[:, None] == group) & ((branch == -1) | (branch[:, None] == branch))
    return related & (back >= 0) & (back < (window or tree.size))


@given(SHAPES, st.none() | st.integers(1, 300))
@settings(max_examples=60)
def test_mask_and_blocks_are_those_of_the_definition(
    shapes: list[tuple[int, list[int]]], window: int | None
) -> None:
    tree = tree_of(shapes)
    mask = flex.block_mask(visible_rows(tree, window))
    size = mask.seq_lengths[0]
    expected = torch.eye(size, dtype=torch.bool)
    expected[: tree.size, : tree.size] = torch.from_numpy(visible_pairs(tree, window))

    rows = torch.arange(size)
    assert torch.equal(mask.mask_mod(rows[:0], rows[:0], rows[:, None], rows[None]), expected)
    seen = expected.unflatten(0, (-1, flex.BLOCK)).unflatten(2, (-1, flex.BLOCK)).sum((1, 3))
    full = seen == flex.BLOCK**2
    assert torch.equal(listed(mask.full_kv_num_blocks, mask.full_kv_indices), full)
    assert torch.equal(listed(mask.kv_num_blocks, mask.kv_indices), (seen > 0) & ~full)
    assert torch.equal(listed(mask.full_q_num_blocks, mask.full_q_indices), full.T)
    assert torch.equal(listed(mask.q_num_blocks, mask.q_indices), (seen > 0).T & ~full.T)


def listed(counts: Tensor, indices: Tensor) -> Tensor:
    """FlexAttention's lists of blocks as a matrix [B, B]."""
    chosen = torch.zeros(indices.shape[2:], dtype=torch.bool)
    for row, (count, order) in enumerate(zip(counts[0, 0].tolist(), indices[0, 0], strict=True)):
        chosen[row, order[:count].long()] = True
    return chosen


def test_blocks_that_only_siblings_could_see_are_left_out() -> None:
    tree = tree_of([(256, [256] * 4)] * 2)  # blocks: 2 of each prompt, 2 of each completion
    mask = flex.block_mask(visible_rows(tree, None))
    computed = int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum())
    assert computed == 2 * (3 + 4 * (4 + 3))  # of 400, or of 210 in a triangle
    windowed = flex.block_mask(visible_rows(tree, 128))
    assert int(windowed.kv_num_blocks.sum() + windowed.full_kv_num_blocks.sum()) == 2 * (3 + 4 * (1 + 3))


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """Attention goes by `flex`, compiled as on a GPU but for the kernels; yields the count of compilations."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(flex._over_blocks, dynamic=True, fullgraph=True, backend=counter)
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *states: None)
    monkeypatch.setattr(flex, "_compiled", lambda: compiled)
    monkeypatch.setattr(flex, "serves", lambda *states: True)
    yield counter
    flex._compiles.cache_clear()
    torch._dynamo.reset()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_gradients_equal_plain_ones_in_float64(architecture: str, on_cpu: Any) -> None:
    groups = ragged_groups(5, groups=4, longest=50)
    tree = token_tree([(g.prompt.tokens, [c.tokens for c in g.completions]) for g in groups])
    assert tree.size > 2 * flex.BLOCK
    targets = torch.from_numpy(np.concatenate([c.tokens for g in groups for c in g.completions]))
    weights = torch.from_numpy(np.random.default_rng(9).normal(size=len(targets)))
    with everything_in_double():
        model, plain = tiny_model(architecture), tiny_model(architecture, attention="eager")
        ours, _ = tree_logprobs(tiny_policy(model), tree, targets)
        theirs = [plain_logprobs(plain, g.prompt.tokens, c.tokens)[0] for g in groups for c in g.completions]
        (ours * weights).sum().backward()
        (torch.cat(theirs) * weights).sum().backward()
    assert on_cpu.frame_count > 0
    torch.testing.assert_close(ours, torch.cat(theirs), rtol=1e-10, atol=1e-10)
    assert worst_relative_difference(gradients(model), gradients(plain)) < 1e-10


def states(heads: int, key_heads: int, rows: int, width: int, seed: int = 0, **kind: Any) -> list[Tensor]:
    """Random query, key and value, [1, ·, S, D], laid out as a model hands them over; they want gradients."""
    noise = torch.Generator().manual_seed(seed)
    made = [torch.randn(1, rows, count, width, generator=noise) for count in (heads, key_heads, key_heads)]
    return [each.to(**kind).transpose(1, 2).requires_grad_() for each in made]


def test_packs_of_other_sizes_and_windows_are_not_compiled_anew(on_cpu: CompileCounterWithBackend) -> None:
    key = (torch.device("cpu"), torch.float32, 4, 2, 8, 0.25, None)
    assert flex._compiles(*key)
    assert on_cpu.frame_count == 1
    # One block, as many blocks as heads, as key heads and as numbers per head; a full last block; windows.
    for lengths, window in [((9, 9), None), ((300, 190), None), ((60, 68), 40), ((500, 499), 300)]:
        tree = tree_of([(lengths[0], [lengths[1]])])
        given = states(4, 2, tree.size, 8)
        flex.attend(*given, flex.block_mask(visible_rows(tree, window)), 0.25, None).sum().backward()
    assert on_cpu.frame_count == 1


def test_a_failing_compilation_is_said_once_and_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled() -> Callable[..., Tensor]:
        raise ImportError("no compiler is installed")

    monkeypatch.setattr(flex, "_compiled", compiled)
    flex._compiles.cache_clear()
    key = (torch.device("cpu"), torch.float32, 4, 2, 16, 0.25, None)
    with pytest.warns(UserWarning, match="no compiler is installed") as said:
        answers = [flex._compiles(*key) for _ in range(2)]
    assert answers == [False, False]
    assert len(said) == 1
    flex._compiles.cache_clear()


def plain_attention(
    given: list[Tensor], tree: TokenTree, window: int | None, softcap: float | None
) -> Tensor:
    """[1, S, H, D] in float64, every score of the row computed; the scale is 1/8."""
    query, key, value = (each.double() for each in given)
    key, value = (each.repeat_interleave(query.shape[1] // key.shape[1], 1) for each in (key, value))
    scores = query @ key.mT / 8
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    hidden = torch.from_numpy(~visible_pairs(tree, window)).to(query.device)
    return (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def check_equal(ours: list[Tensor], out: Tensor, theirs: list[Tensor], plain: Tensor, allowed: float) -> None:
    """Results, and the gradients of their squares; relative to the largest number of each tensor."""
    for each in (out, plain):
        each.square().sum().backward()
    assert (out - plain).abs().max() < allowed * plain.abs().max()
    for our, their in zip(ours, theirs, strict=True):
        assert (our.grad - their.grad).abs().max() < allowed * their.grad.abs().max()


MODES = pytest.mark.parametrize(
    ("window", "softcap"), [(None, None), (100, None), (None, 2.0), (100, 2.0)], ids=str
)
ON_A_GPU = pytest.mark.cuda
SIZES = [(150, [200, 30, 1]), (400, [77, 300])]


@pytest.mark.parametrize(
    ("device", "kind", "allowed"),
    [
        ("cpu", torch.float32, 1e-5),
        pytest.param("cuda", torch.float32, 1e-5, marks=ON_A_GPU),
        pytest.param("cuda", torch.bfloat16, 3e-2, marks=ON_A_GPU),
    ],
    ids=str,
)
@MODES
def test_attention_and_its_gradients_equal_the_plain_computation(
    device: str,
    kind: torch.dtype,
    allowed: float,
    window: int | None,
    softcap: float | None,
    request: pytest.FixtureRequest,
) -> None:
    if device == "cpu":
        request.getfixturevalue("on_cpu")
    tree = tree_of(SIZES, device)
    ours, theirs = (states(4, 2, tree.size, 64, dtype=kind, device=device) for _ in range(2))
    assert flex.serves(*ours[:2], 1 / 8, softcap)
    out = flex.attend(*ours, flex.block_mask(visible_rows(tree, window)), 1 / 8, softcap)
    check_equal(ours, out, theirs, plain_attention(theirs, tree, window, softcap), allowed)


@MODES
def test_attention_by_sequence_equals_the_plain_computation(
    window: int | None, softcap: float | None
) -> None:
    tree = tree_of(SIZES)
    ours, theirs = (states(4, 2, tree.size, 16, dtype=torch.float64) for _ in range(2))
    out = attend_by_sequence(*ours, tree, AttentionRule(1 / 8, window, softcap))
    check_equal(ours, out, theirs, plain_attention(theirs, tree, window, softcap), 1e-12)
