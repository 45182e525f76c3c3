"""A live batch says what the native sampler would say, whoever joins and leaves beside a request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling_support import KEY, make_policy, make_prompts, sample
from tiny_models import tiny_model_folder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from grandrounds.errors import PolicyError
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import PolicyRecipe
from grandrounds.response.form import Form
from grandrounds.response.grammar import Grammar
from grandrounds.sampling import live, live_row
from grandrounds.sampling.decoding import GrowingText, continuation
from grandrounds.sampling.live import LiveBatch
from grandrounds.sampling.live_row import Chosen, LiveRow, RowRequest, least_tokens
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.types import Prompt

SETTINGS = SamplingSettings(max_new_tokens=20)
BEGUN = "<answer>" + 30 * "a"


def requests(
    prompts: Sequence[Prompt], n: int = 1, settings: SamplingSettings = SETTINGS
) -> list[list[RowRequest]]:
    return [[RowRequest(prompt, settings, KEY, place) for place in range(n)] for prompt in prompts]


def decode(policy: Policy, jobs: Sequence[Sequence[RowRequest]], *, every: int = 0) -> list[list[LiveRow]]:
    """Rows of all requests. every: so many steps between one that joins and the next."""
    batch, joined = LiveBatch(policy), []
    try:
        for job in jobs:
            joined.append(batch.join(job))
            for _ in range(every):
                if batch.rows:
                    batch.step()
        while batch.rows:
            batch.step()
    finally:
        batch.close()
    return joined


def tokens_of(rows: Sequence[LiveRow]) -> list[list[int]]:
    return [[chosen.token for chosen in row.chosen] for row in rows]


@pytest.mark.parametrize("architecture", ["llama", "phi", "gemma2"])  # the last with windows and softcaps
def test_requests_get_the_native_samplers_completions(architecture: str, tmp_path: Path) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = make_prompts(policy)
    groups = sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY)
    for every in (0, 3):  # all at once, and one by one while others decode
        jobs = decode(policy, requests(prompts, 3), every=every)
        for group, rows in zip(groups, jobs, strict=True):
            assert tokens_of(rows) == [completion.tokens.tolist() for completion in group.completions]
            assert [row.text for row in rows] == [completion.text for completion in group.completions]
            assert [row.finish for row in rows] == [completion.finish for completion in group.completions]


def test_a_request_is_answered_alike_whatever_is_beside_it(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "qwen2", ends=6)
    prompts = make_prompts(policy, lengths=[3 + 5 * number % 31 for number in range(32)])
    settings = [
        SamplingSettings(max_new_tokens=6 + number, temperature=(1.0, 0.7, 0.0)[number % 3], top_p=0.95)
        for number in range(32)
    ]
    jobs = [requests([prompt], 1, how)[0] for prompt, how in zip(prompts, settings, strict=True)]
    together = [rows[0] for rows in decode(policy, jobs, every=1)]
    some = range(0, 32, 5)
    alone = [decode(policy, [jobs[number]])[0][0] for number in some]
    assert tokens_of([together[number] for number in some]) == tokens_of(alone)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rows_numbers_are_the_same_to_the_last_bit_whatever_is_beside_it(
    precision: str, tmp_path: Path
) -> None:
    """More rows than one pass has, and prompts of one block of columns and of several."""
    # Widths as real models have them: a vector's length divides them.
    tiny_model_folder(tmp_path, "llama", hidden_size=64, intermediate_size=192)
    recipe = PolicyRecipe(model=str(tmp_path), adapter="full", device="cpu", precision=precision)
    policy = load_policy(recipe, seed=0)
    prompts = make_prompts(policy, [(7, 300, 40, 620)[number % 4] + number for number in range(35)])
    settings = SamplingSettings(max_new_tokens=4)
    jobs = [[RowRequest(prompt, settings, KEY, top=0)] for prompt in prompts]
    together = [rows[0].chosen for rows in decode(policy, jobs)]
    for number in (0, 1, 3, 18, 34):
        assert together[number] == decode(policy, [jobs[number]])[0][0].chosen


def test_rows_that_leave_take_nothing_along_and_leave_nothing_behind(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "llama")
    first, second, third = requests(make_prompts(policy, (9, 17, 5)), 2)
    alone = decode(policy, [second])[0]
    batch = LiveBatch(policy)
    gone, kept = batch.join(first), batch.join(second)
    for _ in range(4):
        batch.step()
    batch.leave(gone)
    unused = [states[2:] for layer in batch._cache._layers.values() for states in layer]
    assert unused
    assert not any(bool(states.any()) for states in unused)
    late = batch.join(third)
    while batch.rows:
        batch.step()
    assert tokens_of(kept) == tokens_of(alone)
    assert tokens_of(late) == tokens_of(decode(policy, [third])[0])
    assert len(gone[0].chosen) == 4
    assert not batch._cache._layers  # an empty batch holds no memory
    batch.close()


def test_a_prompt_is_computed_once_for_all_its_rows(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "llama")
    counts: list[int] = []
    hook = policy.base.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: counts.append(inputs[0].numel())
    )
    decode(policy, requests(make_prompts(policy, (9,)), 5, SamplingSettings(max_new_tokens=3)))
    hook.remove()
    assert counts == [9, 5, 5]


def test_logprobs_are_the_models_own(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "qwen2")
    (prompt,) = make_prompts(policy, (11,))
    settings = SamplingSettings(max_new_tokens=6, temperature=0.6, top_p=0.8)
    (row,) = decode(policy, [[RowRequest(prompt, settings, KEY, top=3)]])[0]
    whole = torch.tensor([[*prompt.tokens.tolist(), *tokens_of([row])[0]]])
    with torch.no_grad(), policy.own_attention():
        logs = policy.base(whole).logits[0, 10:-1].log_softmax(-1)
    for place, chosen in enumerate(row.chosen):
        assert chosen.logprob == pytest.approx(float(logs[place, chosen.token]), abs=1e-4)
        best = logs[place].topk(3)
        assert [token for token, _ in chosen.top] == best.indices.tolist()
        np.testing.assert_allclose([log for _, log in chosen.top], best.values.numpy(), atol=1e-4)


def test_room_is_counted_before_a_request_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(tmp_path, "qwen2")
    (job,) = requests(make_prompts(policy, (40,)), 8)
    batch = LiveBatch(policy)
    monkeypatch.setattr(live, "KV_CACHE_BYTES", 8 * 64 * batch._token_bytes)
    assert batch.fits(job)
    batch.join(job)
    assert not batch.fits(job[:1])
    assert batch.fits(job, alone=True)
    batch.close()


def test_a_model_without_our_attention_is_refused_with_a_hint(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, "qwen2")
    policy.kernels = policy.kernels.model_copy(update={"shared_prefix": False})
    with pytest.raises(PolicyError, match="shared_prefix"):
        LiveBatch(policy)


def test_bytes_that_are_no_character_yet_are_taken_back_too(tmp_path: Path) -> None:
    """A byte-level model may leave the form in the middle of a character."""
    tokenizer = make_policy(tmp_path, "qwen2").tokenizer
    text, bytes_of_e = GrowingText(tokenizer), tokenizer.encode("é", add_special_tokens=False)
    assert len(bytes_of_e) == 2
    (a,) = tokenizer.encode("a", add_special_tokens=False)
    for token in (a, *bytes_of_e, bytes_of_e[0]):
        text.add(token)
    assert (text.text, text.ends) == ("aé", [1, 1, 2, 2])
    assert [text.within(length) for length in range(3)] == [0, 1, 3]
    text.keep(1)
    text.add(a)
    assert text.text == "aa"


def test_a_repair_that_would_take_too_many_tokens_gives_up_what_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no character are three times as many tokens when they are written again as U+FFFD."""
    policy = make_policy(tmp_path, "qwen2")
    tokenizer, (prompt,) = policy.tokenizer, make_prompts(policy, (5,))
    written, opens = (tokenizer.encode(text, add_special_tokens=False) for text in (BEGUN, " <"))
    byte = tokenizer.encode("é", add_special_tokens=False)[1]
    tokens = [*written, byte, byte, byte, *opens]
    assert len(opens) == 1  # where the answer is closed, before "<", is within this token
    most = len(tokens) + live_row.tokens_of(tokenizer, "</answer>")
    row = LiveRow(
        RowRequest(prompt, SamplingSettings(most), KEY, form=Form(Grammar(), reasoning=False)),
        tokenizer,
        policy.eos_ids,
    )
    for token in tokens:
        row.take(Chosen(token, 0.0))
    while row.finish is None:
        row.take(Chosen(row.forced.popleft(), 0.0, forced=True))
    assert (row.malformed, row.finish, len(row.chosen) <= most) == (False, "length", True)
    assert Grammar().parse(row.text).answer == 30 * "a"


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_random_models_hold_the_form_or_are_known_not_to(architecture: str, tmp_path: Path) -> None:
    """At the shortest lengths too, where a part may end before a character of it is complete."""
    policy, form = make_policy(tmp_path, architecture), Form(Grammar())
    (prompt,) = make_prompts(policy, (9,))
    rows = []
    for most in (least_tokens(form, policy.tokenizer), 50):
        settings = SamplingSettings(max_new_tokens=most)
        job = [RowRequest(prompt, settings, KEY, place, form=form) for place in range(32)]
        rows += decode(policy, [job])[0]
    for row in rows:
        assert len(row.chosen) <= row.request.settings.max_new_tokens
        assert row.reader is not None
        assert row.malformed or Grammar().parse(row.text[: row.reader.end]).defects == ()
    assert sum(row.malformed for row in rows) <= 1


def test_a_text_that_goes_on_gets_no_space_from_a_tokenizer_that_begins_with_one() -> None:
    tokens = Tokenizer(models.BPE({"▁": 0, "a": 1, "b": 2, "▁a": 3, "\n": 4}, [("▁", "a")]))
    tokens.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokens.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens)
    assert tokenizer.encode("ab") == [3, 2]
    assert continuation(tokenizer, "ab") == [1, 2]
    assert tokenizer.decode([2, *continuation(tokenizer, "ab")]) == "bab"
