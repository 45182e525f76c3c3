"""vLLM itself, where it is installed: the fake has its names, and a tiny model says what our own engine says."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

import fake_vllm
from tiny_models import tiny_model_folder
from vllm_support import decode, requests

from grandrounds.errors import PolicyError
from grandrounds.policy.load import load_policy
from grandrounds.recipe import PolicyRecipe
from grandrounds.response.form import Form
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.engine import Engine
from grandrounds.sampling.live import native_engine
from grandrounds.sampling.live_row import LiveRow
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.sampling.vllm_engine import vllm_engine, vllm_library

FORM = Form(Grammar())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> PolicyRecipe:
    folder = tmp_path_factory.mktemp("model")
    # Heads as wide as vLLM's kernels want them.
    tiny_model_folder(folder, "llama", hidden_size=128, intermediate_size=256, head_dim=32)
    return PolicyRecipe(model=str(folder), adapter="full", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def engine(recipe: PolicyRecipe) -> Iterator[Engine]:
    engine = vllm_engine(vllm_library(), recipe, 48, 1)
    yield engine
    engine.batch.close()


def tokens(rows: Sequence[LiveRow]) -> list[list[int]]:
    return [[chosen.token for chosen in row.chosen] for row in rows]


def names(of: Any) -> set[str]:
    """The fields of a dataclass or of a struct, or the parameters of a function."""
    if dataclasses.is_dataclass(of):
        return {field.name for field in dataclasses.fields(of)}
    return set(getattr(of, "__struct_fields__", ())) or set(inspect.signature(of).parameters)


def test_the_fake_has_no_name_that_vllm_does_not_have() -> None:
    library = vllm_library()
    from vllm.logprobs import Logprob

    for fake, real in (
        (fake_vllm.SamplingParams, library.SamplingParams),
        (fake_vllm.EngineArgs, library.EngineArgs),
        (fake_vllm.RequestOutput, library.RequestOutput),
        (fake_vllm.CompletionOutput, library.CompletionOutput),
        (fake_vllm.Logprob, Logprob),
        *(
            (getattr(fake_vllm.LLMEngine, name), getattr(library.LLMEngine, name))
            for name in (
                "from_engine_args",
                "add_request",
                "abort_request",
                "has_unfinished_requests",
                "step",
            )
        ),
    ):
        assert names(fake) <= names(real), fake
    kinds = library.sampling_params.RequestOutputKind
    assert kinds.DELTA.value == fake_vllm.RequestOutputKind.DELTA.value
    assert isinstance(library.platforms.current_platform.device_type, str)


@pytest.mark.parametrize("form", [None, FORM])
def test_greedy_rows_are_our_own_engines_with_repairs_and_log_probs(
    engine: Engine, recipe: PolicyRecipe, form: Form | None
) -> None:
    native = native_engine(load_policy(recipe, seed=0))
    asked = requests(engine, (5, 23, 140, 1, 30), form=form, top=3)
    theirs, ours = decode(engine, asked), decode(native, asked)
    assert tokens(theirs) == tokens(ours)
    for one, other in zip(theirs, ours, strict=True):
        assert (one.text, one.finish, one.repairs) == (other.text, other.finish, other.repairs)
        for chosen, same in zip(one.chosen, other.chosen, strict=True):
            assert chosen.logprob == pytest.approx(same.logprob, abs=1e-3)
            assert len(chosen.top) == 3
    assert any(one.repairs for one in theirs) == (form is not None)
    native.batch.close()


def test_a_seed_gives_the_same_tokens_and_another_gives_others(engine: Engine) -> None:
    settings = SamplingSettings(40, temperature=0.8, top_p=0.95, top_k=50, min_p=0.01)
    asked = requests(engine, (9, 20), settings=settings, form=FORM)
    one, same = decode(engine, asked), decode(engine, asked)
    others = decode(engine, [dataclasses.replace(request, place=1) for request in asked])
    assert tokens(one) == tokens(same)
    assert all(row != other for row, other in zip(tokens(one), tokens(others), strict=True))


def test_more_prompts_with_seeds_than_one_step_computes(engine: Engine) -> None:
    rows = decode(engine, requests(engine, [90] * 48, settings=SamplingSettings(4)))
    assert all(row.finish for row in rows)


def test_rows_that_leave_take_nothing_along(engine: Engine) -> None:
    first, second = requests(engine, (9, 20))
    (alone,) = tokens(decode(engine, [second]))
    gone, kept = engine.batch.join([first]), engine.batch.join([second])
    engine.batch.step()
    engine.batch.leave(gone)
    while engine.batch.rows:
        engine.batch.step()
    assert tokens(kept) == [alone]
    assert len(gone[0].chosen) == 1
    assert not engine.batch._engine.has_unfinished_requests()  # type: ignore[attr-defined]


def test_the_context_may_be_filled(engine: Engine) -> None:
    settings = SamplingSettings(30, temperature=0)
    (row,) = decode(
        engine, requests(engine, [engine.max_positions - 30], settings=settings, form=FORM, top=0)
    )
    assert not row.malformed


def test_what_its_kernels_cannot_compute_is_refused_when_it_is_loaded(engine: Engine, tmp_path: Path) -> None:
    if not engine.description.startswith("float32 on cpu"):
        pytest.skip("a GPU's kernels take heads of this width")
    tiny_model_folder(tmp_path, "llama", hidden_size=160, intermediate_size=256, head_dim=40)
    recipe = PolicyRecipe(model=str(tmp_path), adapter="full", device="cpu", precision="float32")
    with pytest.raises(PolicyError, match="head_dim=40"):
        vllm_engine(vllm_library(), recipe, 4, 1)
