"""Decoding steps that are captured and replayed give what steps computed one by one do.

Where there is no GPU a tape stands in for CUDA graphs: it writes down the operations that reach torch's dispatcher,
refuses those that a graph refuses, and does them again on the very same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sampling_support import KEY, assert_same, beginning_alike, make_policy, make_prompts, sample
from tiny_models import FAMILIES
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grandrounds.kernels import cuda_graphs
from grandrounds.sampling import batch
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings

SETTINGS = SamplingSettings(max_new_tokens=40)
# What waits for the device, and what makes tensors whose shape depends on values.
REFUSED = (
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::item",
    "aten::nonzero",
    "aten::_unique2",
)


class Tape(TorchDispatchMode):
    """A recorder, and how often it recorded and replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.recorded = self.replayed = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() in REFUSED:
            raise RuntimeError(f"{func.name()} is not permitted when a stream is capturing")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.calls, self.recorded = [], self.recorded + 1
        with self:
            states = run()
        calls = self.calls

        def replay() -> Tensor:
            self.replayed += 1
            for func, args, kwargs, out in calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
            return states

        return replay


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    tape = Tape()
    monkeypatch.setattr(batch, "capture_on", lambda device: tape.record)
    monkeypatch.setattr(batch, "STRIDE", 8)
    # As it is while a stream is capturing.
    monkeypatch.setattr("transformers.masking_utils.is_tracing", lambda tensor=None: True)
    return tape


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("common", [0, 33])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_replayed_steps_decode_the_same(
    architecture: str, common: int, n: int, tmp_path: Path, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = beginning_alike(make_prompts(policy), common)
    replayed = sample(NativeSampler(policy), prompts, n, SETTINGS, KEY)
    assert tape.replayed > tape.recorded > 1
    monkeypatch.undo()
    assert_same(replayed, sample(NativeSampler(policy), prompts, n, SETTINGS, KEY))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_so_do_they_where_rows_join_later(
    architecture: str, tmp_path: Path, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, architecture, ends=12)
    prompts = make_prompts(policy)
    token = batch.bytes_per_token(policy.base.config, 4)
    monkeypatch.setattr(batch, "KV_CACHE_BYTES", (2 * 30 + 4 * SETTINGS.max_new_tokens) * token)
    replayed = sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY)
    assert tape.replayed > tape.recorded > 1
    monkeypatch.undo()
    assert_same(replayed, sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY))


def test_where_nothing_can_be_captured_a_warning_says_why_and_nothing_changes(
    tmp_path: Path, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, "qwen2", ends=12)
    prompts = make_prompts(policy)
    monkeypatch.setattr("transformers.masking_utils.is_tracing", lambda tensor=None: False)  # looks at values
    with pytest.warns(UserWarning, match=r"steps cannot be captured here.*is_nonzero") as warned:
        stepwise = sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY)
    assert len(warned) == tape.recorded == 1
    assert tape.replayed == 0
    monkeypatch.undo()
    assert_same(stepwise, sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY))


def test_running_out_of_memory_is_not_taken_for_that(
    tmp_path: Path, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(batch, "capture_on", lambda device: exhausted)
    policy = make_policy(tmp_path, "qwen2", ends=12)
    with pytest.raises(torch.OutOfMemoryError):
        sample(NativeSampler(policy), make_prompts(policy), 3, SETTINGS, KEY)


def test_on_a_cpu_steps_are_not_captured() -> None:
    assert cuda_graphs.capture_on(torch.device("cpu")) is None
    assert cuda_graphs.capture_on(torch.device("cuda")) is cuda_graphs.cuda_graph


@pytest.mark.cuda
@pytest.mark.parametrize("architecture", FAMILIES)
def test_cuda_graphs_decode_what_steps_do(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tmp_path, architecture, ends=12, device="cuda")
    prompts = make_prompts(policy)
    recorded: list[int] = []

    def counting(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        recorded.append(1)
        return cuda_graphs.cuda_graph(run)

    monkeypatch.setattr(batch, "capture_on", lambda device: counting)
    replayed = sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY)
    assert recorded
    monkeypatch.setattr(batch, "capture_on", lambda device: None)
    assert_same(replayed, sample(NativeSampler(policy), prompts, 3, SETTINGS, KEY))
