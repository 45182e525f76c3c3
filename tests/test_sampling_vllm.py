"""Rows decoded by vLLM's interface: what our own engine would say, and what vLLM is asked for meanwhile."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import fake_vllm
import pytest
from fake_vllm import CompletionOutput, LLMEngine, RequestOutput, Submitted
from serve_support import target
from tiny_models import CONTEXT, tiny_model_folder
from vllm_support import decode, requests

from grandrounds.errors import PolicyError, RunError
from grandrounds.recipe import PolicyRecipe
from grandrounds.response.form import Form
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.engine import Engine
from grandrounds.sampling.live import native_engine
from grandrounds.sampling.live_row import Chosen, LiveRow, least_tokens
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.sampling.vllm_engine import vllm_engine, vllm_library
from grandrounds.sampling.vllm_request import VllmRequest, seed_of
from grandrounds.serve.engines import ENGINES
from grandrounds.serve.options import ServeOptions

FORM = Form(Grammar())


@pytest.fixture(autouse=True)
def _fake() -> Iterator[None]:
    with mock.patch.dict(os.environ), fake_vllm.installed():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model_folder(folder, "qwen2")
    return folder


@pytest.fixture
def recipe(folder: Path) -> PolicyRecipe:
    return PolicyRecipe(model=str(folder), adapter="full", device="cpu", precision="float32")


@pytest.fixture
def engine(recipe: PolicyRecipe) -> Engine:
    return vllm_engine(vllm_library(), recipe, 64, 1)


def submitted() -> list[Submitted]:
    """All requests of vLLM's, but for the trial when it was loaded."""
    assert LLMEngine.latest is not None
    return LLMEngine.latest.submitted[1:]


def of(row: LiveRow) -> list[Submitted]:
    """The requests of vLLM's that a row took."""
    prompt = row.request.prompt.tokens.tolist()
    return [one for one in submitted() if one.prompt[: len(prompt)] == prompt]


@pytest.mark.parametrize("form", [None, FORM, Form(Grammar(), reasoning=False)])
def test_greedy_rows_are_our_own_engines_with_repairs_and_log_probs(
    engine: Engine, folder: Path, form: Form | None
) -> None:
    asked = requests(engine, form=form, top=3)
    native = native_engine(target(folder.parent, folder.name, {folder.name: ("qwen2", [])}).load())
    theirs, ours = decode(engine, asked), decode(native, asked)
    for one, other in zip(theirs, ours, strict=True):
        assert [chosen.token for chosen in one.chosen] == [chosen.token for chosen in other.chosen]
        assert [chosen.forced for chosen in one.chosen] == [chosen.forced for chosen in other.chosen]
        assert (one.text, one.finish, one.repairs) == (other.text, other.finish, other.repairs)
        for chosen, same in zip(one.chosen, other.chosen, strict=True):
            assert chosen.logprob == pytest.approx(same.logprob, abs=1e-4)
            assert [token for token, _ in chosen.top] == [token for token, _ in same.top]
    assert any(one.repairs for one in theirs) == (form is not None)
    native.batch.close()


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_random_models_hold_the_form_at_the_shortest_lengths_too(architecture: str, tmp_path: Path) -> None:
    tiny_model_folder(tmp_path, architecture)
    recipe = PolicyRecipe(model=str(tmp_path), adapter="full", precision="float32")
    engine = vllm_engine(vllm_library(), recipe, 64, 1)
    for most in (least_tokens(FORM, engine.tokenizer), 50):
        (first,) = requests(engine, [9], settings=SamplingSettings(most), form=FORM)
        for row in decode(engine, [replace(first, place=place) for place in range(32)]):
            assert len(row.chosen) <= most
            assert row.reader is not None
            assert row.malformed or Grammar().parse(row.text[: row.reader.end]).defects == ()


def test_a_row_that_only_grows_is_one_request(engine: Engine) -> None:
    settings = SamplingSettings(12, temperature=0.7, top_p=0.9, top_k=7, min_p=0.05)
    (row,) = decode(engine, requests(engine, [8], settings=settings))
    (made,) = submitted()
    params = made.params
    assert made.prompt == row.request.prompt.tokens.tolist()
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.7, 0.9, 7, 0.05)
    assert (params.max_tokens, params.logprobs, params.prompt_logprobs) == (12, None, None)
    assert params.ignore_eos
    assert params.stop_token_ids == sorted(engine.batch._ends)  # type: ignore[attr-defined]
    assert not params.detokenize
    assert params.logit_bias is None
    assert params.output_kind is fake_vllm.RequestOutputKind.DELTA


def test_after_a_repair_another_request_goes_on_from_what_was_kept_and_written(engine: Engine) -> None:
    (row,) = decode(engine, requests(engine, [8], form=FORM, settings=SamplingSettings(60)))
    first, second = of(row)[:2]
    assert first.aborted
    assert row.repairs
    prompt = len(row.request.prompt.tokens)
    written = engine.tokenizer.decode(second.prompt[prompt:])
    assert "<reasoning>" in written  # a random model begins with something else
    assert second.params.max_tokens == 60 - (len(second.prompt) - prompt)
    assert first.params.seed != second.params.seed
    assert second.params.prompt_logprobs is None
    assert {one.salt for one in of(row)} == {first.salt}


def test_a_refused_token_is_excluded_at_its_place_and_nowhere_else(engine: Engine) -> None:
    (asked,) = requests(engine, [8])
    (row,) = engine.batch.join([asked])
    take, refused = row.take, []

    def refuse(chosen: Chosen) -> None:
        take(chosen)
        if len(row.chosen) == 3 and len(refused) < 2:
            refused.append(row.chosen[-1].token)
            row.banned.update(refused)
            row._cut(2)

    row.take = refuse  # type: ignore[method-assign]
    while engine.batch.rows:
        engine.batch.step()
    assert len(set(refused)) == 2
    assert [one.params.logit_bias for one in of(row)] == [
        None,
        {refused[0]: -math.inf},
        dict.fromkeys(sorted(refused), -math.inf),
        None,
    ]
    assert [one.params.max_tokens for one in of(row)] == [50, 1, 1, 47]
    assert row.chosen[2].token not in refused


def test_an_excluded_token_that_comes_all_the_same_is_an_error(engine: Engine) -> None:
    """Rather than the same request for ever."""
    row = LiveRow(requests(engine, [8])[0], engine.tokenizer, frozenset())
    row.banned.add(7)
    output = RequestOutput("0", None, [CompletionOutput([7], None, None)], finished=True)
    with pytest.raises(RuntimeError, match="excluded"):
        next(VllmRequest.of(row, 1).chosen(output))


def test_seeds_are_keyed(engine: Engine) -> None:
    (one,) = requests(engine, [8])
    others = [replace(one, place=1), replace(one, key=(7, 4)), replace(one, key=(8, 3))]
    seeds = [*(seed_of(one, number) for number in range(3)), *(seed_of(other, 0) for other in others)]
    assert len(set(seeds)) == 6
    assert seed_of(one, 0) == seeds[0]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_no_two_requests_share_what_is_cached(engine: Engine) -> None:
    one, two = (engine.batch.join([request, request]) for request in requests(engine, [8, 8]))
    salts = [submitted()[number].salt for number in range(4)]
    assert salts[0] == salts[1] != salts[2] == salts[3]
    engine.batch.leave([*one, *two])


def test_rows_that_leave_are_aborted_and_the_others_go_on(engine: Engine) -> None:
    first, second, _ = [engine.batch.join([request])[0] for request in requests(engine, [8, 9, 10])]
    engine.batch.step()
    engine.batch.leave([first, first])
    engine.batch.leave([first])
    assert [one.aborted for one in submitted()] == [True, False, False]
    while engine.batch.rows:
        engine.batch.step()
    assert len(first.chosen) == 1
    assert second.finish == "length"
    assert not LLMEngine.latest.has_unfinished_requests()  # type: ignore[union-attr]
    assert not engine.batch._requests  # type: ignore[attr-defined]
    assert not engine.batch._salts  # type: ignore[attr-defined]


def test_a_batch_recovers_from_our_own_errors_and_not_from_vllms(engine: Engine) -> None:
    (row,) = engine.batch.join(requests(engine, [8]))
    with mock.patch.object(row, "take", side_effect=KeyError), pytest.raises(KeyError):
        engine.batch.step()
    assert engine.batch.recover()
    assert submitted()[0].aborted
    assert decode(engine, requests(engine, [8]))[0].finish == "length"
    rows = engine.batch.join(requests(engine, [8]))
    LLMEngine.latest.broken = RuntimeError("CUDA error")  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="CUDA"):
        engine.batch.step()
    assert not engine.batch.recover()
    assert engine.batch.rows == []
    engine.batch.leave(rows)  # as when their client goes away
    engine.batch.close()
    assert not LLMEngine.latest.open  # type: ignore[union-attr]


def test_a_response_may_fill_the_context_and_be_written_to_its_end(engine: Engine) -> None:
    """vLLM wants room for a token after the prompt, and the last tokens may all be written by a repair."""
    assert engine.max_positions == CONTEXT - 1
    most = least_tokens(FORM, engine.tokenizer)
    settings = SamplingSettings(most, temperature=0)
    asked = requests(engine, [engine.max_positions - most], settings=settings, form=FORM, top=0)
    (row,) = decode(engine, asked)
    assert not row.malformed
    assert max(len(one.prompt) for one in of(row)) < CONTEXT


def test_engines_share_the_memory_and_load_no_code(folder: Path) -> None:
    policies: Any = {folder.name: ("qwen2", [])}
    targets = [target(folder.parent, folder.name, policies) for _ in range(2)]
    with mock.patch("grandrounds.training.target.load_policy") as loaded:
        engines = ENGINES["vllm"](targets, ServeOptions(max_rows=5))
    assert not loaded.called  # the weights are vLLM's alone
    arguments = engines[0].batch._engine.engine_args  # type: ignore[attr-defined]
    assert arguments.model == str(folder)
    assert arguments.gpu_memory_utilization == pytest.approx(0.45)
    assert arguments.max_num_seqs == 5
    assert arguments.max_model_len == -1
    assert arguments.load_format == "safetensors"
    assert not arguments.trust_remote_code
    assert engines[0].description == "float32 on cpu by vLLM 0"
    assert [os.environ[name] for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")] == ["1", "1"]
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_a_context_that_is_shorter_than_the_models_is_vllms_too(
    recipe: PolicyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with LongRoPE, whose rotations vLLM chooses by the longest context that it is to have."""
    monkeypatch.setattr("grandrounds.policy.unloaded.context_length", lambda config: 100)
    engine = vllm_engine(vllm_library(), recipe, 1, 1)
    assert engine.batch._engine.engine_args.max_model_len == 100  # type: ignore[attr-defined]
    assert engine.max_positions == 99


def test_an_adapter_is_merged_before_vllm_loads_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("GRANDROUNDS_CACHE", str(tmp_path / "cache"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(0)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    adapter = target(tmp_path, "adapter", {"adapter": ("qwen2", [])})
    native = native_engine(adapter.load())
    (engine,) = ENGINES["vllm"]([adapter], ServeOptions())
    assert engine.batch._engine.engine_args.model.startswith(str(tmp_path / "cache"))  # type: ignore[attr-defined]
    asked = requests(engine)
    theirs, ours = decode(engine, asked), decode(native, asked)
    assert [row.text for row in theirs] == [row.text for row in ours]
    native.batch.close()
    (plain,) = ENGINES["vllm"](
        [target(folder.parent, folder.name, {folder.name: ("qwen2", [])})], ServeOptions()
    )
    assert [row.text for row in decode(plain, asked)] != [row.text for row in ours]


def test_a_base_in_4_bits_is_refused(recipe: PolicyRecipe) -> None:
    with pytest.raises(PolicyError, match="export RUN --to merged"):
        vllm_engine(vllm_library(), recipe.model_copy(update={"quantize": "4bit"}), 1, 1)


def test_what_vllm_cannot_load_is_said_in_a_line(recipe: PolicyRecipe) -> None:
    with pytest.raises(PolicyError, match="Unknown dtype: bfloat16") as refused:
        vllm_engine(vllm_library(), recipe.model_copy(update={"precision": "bfloat16"}), 1, 1)
    assert "more lines" not in str(refused.value)
    assert "leave --engine out" in refused.value.hint


def test_what_vllm_cannot_compute_is_said_before_anything_is_served(
    recipe: PolicyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LLMEngine, "faulty", True)
    with pytest.raises(PolicyError, match="head_dim=40"):
        vllm_engine(vllm_library(), recipe, 1, 1)


def test_a_missing_vllm_is_said_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("grandrounds.serve.engines.vllm_engine", mock.Mock(side_effect=AssertionError))
    with pytest.raises(RunError, match="pip install vllm"):
        ENGINES["vllm"]([target(folder.parent, folder.name, {folder.name: ("qwen2", [])})], ServeOptions())


def test_a_vllm_that_does_not_fit_the_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm.platforms", None)  # importing it raises ImportError
    with pytest.raises(RunError, match="cannot be imported"):
        vllm_library()
