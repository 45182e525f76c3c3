"""The native sampler says what transformers would say, whatever else is in the batch, and does no work twice."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sampling_support import (
    KEY,
    LENGTHS,
    SAMPLED,
    all_tokens,
    assert_same,
    beginning_alike,
    make_policy,
    make_prompts,
    sample,
)
from tiny_models import FAMILIES, tiny_model_folder
from transformers import AutoModelForCausalLM

from grandrounds.kernels.products import padded_rows
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import PolicyRecipe
from grandrounds.sampling import batch, kv_cache, native, prefill
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings


def _plain_model(folder: Path) -> torch.nn.Module:
    """The same weights, loaded anew, with transformers' own attention."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@contextmanager
def embedded(policy: Policy) -> Iterator[list[int]]:
    """How many tokens each forward pass within the block embeds."""
    counts: list[int] = []
    layer = policy.base.get_input_embeddings()
    hook = layer.register_forward_hook(lambda module, inputs, output: counts.append(inputs[0].numel()))
    try:
        yield counts
    finally:
        hook.remove()


@pytest.mark.parametrize("architecture", FAMILIES)
def test_greedy_decoding_equals_generate(architecture: str, tmp_path: Path) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = make_prompts(policy)
    settings = SamplingSettings(max_new_tokens=24, temperature=0)
    ours = all_tokens(sample(NativeSampler(policy), prompts, 1, settings, KEY))
    model = _plain_model(tmp_path)
    for prompt, tokens in zip(prompts, ours, strict=True):
        row = torch.from_numpy(prompt.tokens)[None]
        theirs = model.generate(
            row,
            attention_mask=torch.ones_like(row),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=sorted(policy.eos_ids),
            pad_token_id=0,
        )
        assert tokens == theirs[0, len(prompt.tokens) :].tolist()


@pytest.mark.parametrize("architecture", FAMILIES)
def test_behaviour_logprobs_are_those_of_a_plain_forward_pass(architecture: str, tmp_path: Path) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    settings = SamplingSettings(max_new_tokens=20, temperature=0.8)
    groups = sample(NativeSampler(policy), make_prompts(policy), 3, settings, KEY)
    model = _plain_model(tmp_path)
    for group in groups:
        for completion in group.completions:
            row = torch.from_numpy(np.concatenate([group.prompt.tokens, completion.tokens]))[None]
            with torch.no_grad():
                logits = model(input_ids=row, use_cache=False).logits[0, len(group.prompt.tokens) - 1 : -1]
            logs = torch.log_softmax(logits / 0.8, -1)
            plain = logs.gather(1, torch.from_numpy(completion.tokens)[:, None])[:, 0]
            np.testing.assert_allclose(completion.logprobs, plain.numpy(), atol=1e-4)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_case_is_answered_alike_whatever_else_is_in_the_batch(architecture: str, tmp_path: Path) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    sampler, prompts = NativeSampler(policy), make_prompts(policy)
    together = sample(sampler, prompts, 3, SAMPLED, KEY)
    alone = [sample(sampler, [prompt], 3, SAMPLED, KEY)[0] for prompt in prompts]
    backwards = sample(sampler, prompts[::-1], 3, SAMPLED, KEY)[::-1]
    assert all_tokens(together) == all_tokens(alone) == all_tokens(backwards)
    # The first attempts do not depend on how many there are.
    fewer = sample(sampler, prompts, 1, SAMPLED, KEY)
    assert all_tokens(fewer) == all_tokens(together)[::3]


def test_the_key_decides_the_samples(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "qwen2")
    prompts = make_prompts(policy)
    torch.manual_seed(1)
    first = sample(NativeSampler(policy), prompts, 2, SAMPLED, (7, 3))
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    again = sample(NativeSampler(policy), prompts, 2, SAMPLED, (7, 3))
    other = sample(NativeSampler(policy), prompts, 2, SAMPLED, (7, 4))
    assert all_tokens(first) == all_tokens(again)
    assert all(one != two for one, two in zip(all_tokens(first), all_tokens(other), strict=True))
    # Attempts of one case differ, and torch's own state is not drawn from.
    assert all(
        group.completions[0].tokens.tolist() != group.completions[1].tokens.tolist() for group in first
    )
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_prompt_passes_the_model_once_per_group(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "llama")
    with embedded(policy) as counts:
        sample(NativeSampler(policy), make_prompts(policy), 4, SamplingSettings(max_new_tokens=3), KEY)
    # No padding either. The last tokens chosen are never fed.
    assert counts == [sum(LENGTHS), 4 * len(LENGTHS), 4 * len(LENGTHS)]


def test_rows_that_end_leave_the_batch(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "llama", ends=60)
    with embedded(policy) as counts:
        groups = sample(
            NativeSampler(policy), make_prompts(policy), 6, SamplingSettings(max_new_tokens=30), KEY
        )
    lengths = np.array([len(tokens) for tokens in all_tokens(groups)])
    decoded = counts[1:]
    assert decoded == sorted(decoded, reverse=True)
    assert len(decoded) == lengths.max() - 1
    for step, rows in enumerate(decoded):
        needed = int((lengths > step + 1).sum())
        assert needed <= rows <= needed / batch.KEPT_SHARE + 1e-9
    assert decoded[-1] < decoded[0]


def test_responses_stop_at_their_first_end_token(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "llama", ends=40)
    groups = sample(NativeSampler(policy), make_prompts(policy), 6, SamplingSettings(max_new_tokens=8), KEY)
    completions = [completion for group in groups for completion in group.completions]
    assert {completion.finish for completion in completions} == {"stop", "length"}
    for completion in completions:
        ends = [token in policy.eos_ids for token in completion.tokens.tolist()]
        assert not any(ends[:-1])
        assert ends[-1] == (completion.finish == "stop")
        assert len(completion.tokens) == len(completion.logprobs)
        assert completion.finish == "stop" or len(completion.tokens) == 8


def test_a_padding_token_that_also_ends_is_an_end(tmp_path: Path) -> None:
    """Mistral's kind: pad == eos. The end token stays in the completion and is not taken for padding."""
    policy = make_policy(tmp_path, "mistral")
    assert policy.eos_ids == {policy.tokenizer.pad_token_id}
    groups = sample(NativeSampler(policy), make_prompts(policy), 12, SamplingSettings(max_new_tokens=40), KEY)
    stopped = [c for group in groups for c in group.completions if c.finish == "stop"]
    assert stopped
    assert all(completion.tokens[-1] == policy.end_id for completion in stopped)
    assert all("</s>" not in completion.text for completion in stopped)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_waiting_rows_join_as_others_end_and_change_nothing(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MERGE_ON", ())  # so that rows can be counted
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = make_prompts(policy)
    with embedded(policy) as counts:
        whole = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    # Two prompts of 23 and four rows of 20; the third prompt and its first row would make 3 * 23 + 5 * 20.
    token = batch.bytes_per_token(policy.base.config, 4)
    monkeypatch.setattr(batch, "KV_CACHE_BYTES", (2 * 30 + 4 * SAMPLED.max_new_tokens) * token)
    with embedded(policy) as counts_of_few:
        parts = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    assert_same(whole, parts)
    assert counts[0] == sum(LENGTHS)
    assert counts_of_few[:2] == [LENGTHS[0] + LENGTHS[1], 4]
    # One group after the other would take as many passes as the longest completion of each.
    longest = [max(len(completion.tokens) for completion in group.completions) for group in whole]
    assert len(counts_of_few) < sum(longest)


@pytest.mark.parametrize("room", [None, 50])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_ended_rows_that_fill_a_batch_up_change_nothing(
    architecture: str, room: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MERGE_ON", ())  # so that rows can be counted
    policy = make_policy(tmp_path, architecture, ends=60)
    prompts = make_prompts(policy)
    if room is not None:  # for about so many rows: the others wait
        token = batch.bytes_per_token(policy.base.config, 4)
        monkeypatch.setattr(batch, "KV_CACHE_BYTES", (sum(LENGTHS) + room * SAMPLED.max_new_tokens) * token)
    with embedded(policy) as counts:
        filled = sample(NativeSampler(policy), prompts, 12, SAMPLED, KEY)
    monkeypatch.setattr(batch.Batch, "_filled_up", lambda self, going: going)
    with embedded(policy) as counts_otherwise:
        plain = sample(NativeSampler(policy), prompts, 12, SAMPLED, KEY)
    assert_same(filled, plain)
    assert counts != counts_otherwise
    if room is None:  # nobody joins later
        first = counts[1]
        assert all(padded_rows(rows) == rows for rows in counts[1:] if rows < first)
        assert not all(padded_rows(rows) == rows for rows in counts_otherwise[1:] if rows < first)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("common", [0, 33])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_merging_a_prompt_with_its_last_row_changes_nothing(
    architecture: str, common: int, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, architecture, ends=40)
    prompts = beginning_alike(make_prompts(policy), common)
    settings = SamplingSettings(max_new_tokens=60)
    merge, rows = kv_cache.KVCache._merge_prompts, []

    def watched(cache: kv_cache.KVCache) -> None:
        rows.append((len(cache.group), cache.step))
        merge(cache)

    monkeypatch.setattr(kv_cache.KVCache, "_merge_prompts", watched)
    with_merging = sample(NativeSampler(policy), prompts, n, settings, KEY)
    monkeypatch.setattr(kv_cache.KVCache, "_merge_prompts", lambda cache: None)
    assert_same(with_merging, sample(NativeSampler(policy), prompts, n, settings, KEY))
    ((left, step),) = rows  # once
    assert (left, step) == (len(prompts), 0) if n == 1 else left <= len(prompts) and step > 0


def test_a_kv_cache_for_less_than_a_row_takes_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, "qwen3", ends=12)
    prompts = make_prompts(policy)
    whole = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    monkeypatch.setattr(batch, "KV_CACHE_BYTES", 1)
    with embedded(policy) as counts:
        parts = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    assert_same(whole, parts)
    assert [group.prompt for group in parts] == prompts
    # Each prompt passes once all the same.
    assert [count for count in counts if count > 1] == [length for length in LENGTHS if length > 1]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_what_all_prompts_begin_with_passes_once_and_changes_nothing(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = beginning_alike(make_prompts(policy), 33)
    alone = [sample(NativeSampler(policy), [prompt], 3, SAMPLED, KEY)[0] for prompt in prompts]
    with embedded(policy) as counts:
        together = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    assert counts[:2] == [33, sum(LENGTHS)]
    assert_same(together, alone)
    token = batch.bytes_per_token(policy.base.config, 4)
    monkeypatch.setattr(batch, "KV_CACHE_BYTES", (33 + 2 * 30 + 4 * SAMPLED.max_new_tokens) * token)
    assert_same(sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY), alone)


@pytest.mark.parametrize(("count", "shared"), [(31, 0), (32, 32)])
def test_short_common_beginnings_are_not_worth_a_pass(count: int, shared: int) -> None:
    common = np.arange(count)
    prompts = [np.concatenate([common, np.array([90 + end])]) for end in range(3)]
    assert prefill.shared_tokens(prompts) == shared
    assert prefill.shared_tokens(prompts[:1]) == 0
    # Of each prompt a token is left, whatever it shares.
    assert prefill.shared_tokens([np.arange(60), np.arange(60)]) == 59
    assert prefill.shared_tokens([np.arange(60), np.arange(40)]) == 39


@pytest.mark.parametrize("architecture", FAMILIES)
def test_prompts_prefilled_in_parts_are_answered_alike(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MERGE_ON", ())  # so that rows can be counted
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = make_prompts(policy)
    whole = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 46)
    with embedded(policy) as counts:
        parts = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    # The rows of all are decoded together.
    assert counts[:3] == [5 + 23 + 14 + 1, 30, 3 * len(LENGTHS)]
    assert_same(whole, parts)


def test_logits_of_a_few_rows_at_a_time_choose_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, "gemma2", ends=12)
    prompts = make_prompts(policy)
    whole = sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)
    monkeypatch.setattr(native, "LOGITS_BYTES", 4 * 4 * len(policy.tokenizer))
    assert all_tokens(sample(NativeSampler(policy), prompts, 3, SAMPLED, KEY)) == all_tokens(whole)


def test_no_prompts_make_no_groups(tmp_path: Path) -> None:
    assert sample(NativeSampler(make_policy(tmp_path, "llama")), [], 3, SAMPLED, KEY) == []


def test_bfloat16_sampler_and_plain_forward_pass_agree_within_its_precision(tmp_path: Path) -> None:
    tiny_model_folder(tmp_path, "qwen2")
    recipe = PolicyRecipe(model=str(tmp_path), adapter="full", precision="bfloat16", device="cpu")
    policy = load_policy(recipe, seed=0)
    groups = sample(NativeSampler(policy), make_prompts(policy), 3, SAMPLED, KEY)
    model = _plain_model(tmp_path)
    errors = []
    for group in groups:
        for completion in group.completions:
            row = torch.from_numpy(np.concatenate([group.prompt.tokens, completion.tokens]))[None]
            with torch.no_grad():
                logits = model(input_ids=row, use_cache=False).logits[0, len(group.prompt.tokens) - 1 : -1]
            plain = torch.log_softmax(logits, -1).gather(1, torch.from_numpy(completion.tokens)[:, None])[
                :, 0
            ]
            errors.extend(np.abs(completion.logprobs - plain.numpy()))
    assert policy.head().weight.dtype == torch.bfloat16
    assert np.mean(errors) < 0.05


def test_the_kv_cache_is_freed_with_the_last_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not by the garbage collector some time later: the update needs the memory."""
    made: list[weakref.ref[Any]] = []

    class Watched(batch.KVCache):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(batch, "KVCache", Watched)
    policy = make_policy(tmp_path, "qwen2")
    gc.disable()
    try:
        sample(NativeSampler(policy), make_prompts(policy), 2, SAMPLED, KEY)
        assert [reference() for reference in made] == [None]
    finally:
        gc.enable()


def surer(policy: Policy, factor: float) -> Policy:
    """The policy with larger logits, so that completions of a group often agree."""
    with torch.no_grad():
        policy.head().weight.mul_(factor)
    return policy


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("factor", [4.0, 30.0])
def test_completions_that_agree_so_far_are_one_row_and_sampled_as_each_by_itself(
    architecture: str, factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = surer(make_policy(tmp_path, architecture, ends=12), factor)
    prompts = make_prompts(policy)
    rows: dict[bool, int] = {}
    made = {}
    for merge in (True, False):
        monkeypatch.setattr(batch, "MERGE_ON", ("cpu",) if merge else ())
        with embedded(policy) as counts:
            made[merge] = sample(NativeSampler(policy), prompts, 6, SAMPLED, KEY)
        rows[merge] = sum(counts)
    assert_same(made[True], made[False], atol=1e-5 * factor)
    assert rows[True] < rows[False]


def test_agreeing_completions_join_in_parts_where_not_all_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = surer(make_policy(tmp_path, "llama", ends=12), 8.0)
    prompts = make_prompts(policy)
    whole = sample(NativeSampler(policy), prompts, 6, SAMPLED, KEY)
    token = kv_cache.bytes_per_token(policy.base.config, 4)
    for room in (60, 150, 400):
        monkeypatch.setattr(batch, "KV_CACHE_BYTES", room * token)
        assert_same(sample(NativeSampler(policy), prompts, 6, SAMPLED, KEY), whole, atol=1e-4)


def test_greedy_completions_of_a_group_are_one_row_to_the_end(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "llama")
    prompts = make_prompts(policy)
    greedy = SamplingSettings(max_new_tokens=10, temperature=0)
    with embedded(policy) as counts:
        groups = sample(NativeSampler(policy), prompts, 4, greedy, KEY)
    assert all(len({tuple(c.tokens.tolist()) for c in group.completions}) == 1 for group in groups)
    assert sum(counts) == sum(LENGTHS) + 9 * len(LENGTHS)
