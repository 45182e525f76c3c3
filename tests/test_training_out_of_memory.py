"""A run that runs out of memory says what it did, what takes the memory and what to lower; then it can go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model_folder

from grandrounds import load_recipe, resume, train
from grandrounds.algorithm.learner import Learner
from grandrounds.errors import RunError
from grandrounds.policy import load
from grandrounds.recipe import Recipe
from grandrounds.sampling.batch import Batch
from grandrounds.training.progress import SilentProgress

CPU_ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    case = {"question": "Why?", "options": {"A": "one", "B": "two"}, "answer": "A", "reasoning": "It is."}
    source = tmp_path / "cases.jsonl"
    source.write_text("".join(json.dumps({**case, "id": str(i)}) + "\n" for i in range(8)))
    settings = {
        "policy.model": tiny_model_folder(tmp_path / "model", "qwen2"),
        "policy.device": "cpu",
        "cases.source": source,
        "cases.test_fraction": 0,
        "cases.validation_fraction": 0,
        "sft.steps": 2,
        "sft.batch_cases": 4,
        "rounds": 2,
        "grpo.cases_per_round": 2,
        "grpo.group_size": 2,
        "grpo.max_new_tokens": 64,
        "checkpoint.every": 1,
        "guard.enabled": False,
    }
    return load_recipe("own-data", [f"{key}={value}" for key, value in settings.items()])


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), CPU_ALLOCATOR]
)
@pytest.mark.parametrize(
    ("owner", "name", "call", "doing", "key"),
    [
        (load, "verify", 1, "loaded", "policy.model"),
        (Learner, "accumulate", 1, "warm-up", "sft.batch_cases"),
        (Batch, "feed", 3, "sampled", "grpo.cases_per_round"),
        (Learner, "step", 4, "updated", "grpo.tokens_per_pack"),  # after two of the warm-up and a round
    ],
)
def test_each_phase_names_its_key_and_the_run_goes_on(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    call: int,
    doing: str,
    key: str,
    error: Exception,
) -> None:
    real, calls = getattr(owner, name), []

    def planted(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == call:
            raise error
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, planted)
        with pytest.raises(RunError) as refusal:
            train(recipe, tmp_path / "run", progress=SilentProgress())
    assert doing in refusal.value.what
    for part in ("weights", "adapters", "optimizer", "KV cache"):
        assert part in refusal.value.what
    assert refusal.value.where == key
    assert f"grandrounds resume {tmp_path / 'run'}" in refusal.value.hint
    if key == "grpo.tokens_per_pack":  # as the hint says, with smaller packs
        assert (tmp_path / "run/checkpoints/000001").is_dir()
        text = (tmp_path / "run/recipe.yaml").read_text()
        (tmp_path / "run/recipe.yaml").write_text(
            text.replace("tokens_per_pack: 4096", "tokens_per_pack: 100")
        )
    assert resume(tmp_path / "run", progress=SilentProgress()).finished


def test_other_errors_pass_as_they_are(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Learner, "accumulate", planted)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(recipe, tmp_path / "run", progress=SilentProgress())
