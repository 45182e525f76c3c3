"""Each seam has a second user: another sampler, loss, data set, reward, model, and a second process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.plain import PlainSampler
from grandrounds import evaluate, resume, train
from grandrounds.algorithm.grpo import Round
from grandrounds.errors import CaseError, GrandRoundsError, PolicyError, RecipeError, RewardError, RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from, with_overrides
from grandrounds.sampling.native import NativeSampler
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run
from grandrounds.types import Group

HERE = Path(__file__).parent
ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n), "level": n} for n in range(12)]
SILENT = SilentProgress()


def recipe(**sections: Any) -> Recipe:
    return recipe_from(
        {
            "rounds": 2,
            "cases": {"source": "clinic", "clinic_train": 60, "clinic_test": 4},
            "policy": {
                "scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 800}
            },
            "grpo": {"group_size": 3, "cases_per_round": 2, "max_new_tokens": 12},
            "guard": {"enabled": False},
            **sections,
        }
    )


def shorter(completions: list[str], **columns: Any) -> list[float]:
    return [1 / (1 + len(text)) for text in completions]


def weights(run: Run) -> dict[str, torch.Tensor]:
    (file,) = (run.folder / "checkpoints" / f"{run.rounds:06d}").glob("*model.safetensors")
    return load_file(file)


def assert_same_weights(one: Run, other: Run) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_transformers_generate_is_a_sampler(tmp_path: Path) -> None:
    """Its completions pass the check that every ratio is 1 before the first update."""
    run = train(recipe(), tmp_path / "run", rewards=shorter, sampler=PlainSampler, progress=SILENT)
    rows = RunFolder.open(run.folder).metrics()
    assert [row["round"] for row in rows] == [1, 2]
    assert all(0 < row["sampling/ratio_error"] < 1e-3 for row in rows)
    assert rows[0]["grad_norm"] > 0


def test_groups_may_come_in_any_order(tmp_path: Path) -> None:
    class Backwards(NativeSampler):
        def sample(self, *arguments: Any) -> Iterator[Group]:
            yield from reversed(list(super().sample(*arguments)))

    runs = [
        train(recipe(), tmp_path / sampler.__name__, rewards=shorter, sampler=sampler, progress=SILENT)
        for sampler in (NativeSampler, Backwards)
    ]
    assert_same_weights(*runs)


def test_a_sampler_that_loses_a_prompt_is_told_so(tmp_path: Path) -> None:
    class Forgetful(NativeSampler):
        def sample(self, *arguments: Any) -> Iterator[Group]:
            yield from list(super().sample(*arguments))[1:]

    with pytest.raises(RunError, match="returned groups for 1 of 2 prompts"):
        train(recipe(), tmp_path / "run", rewards=shorter, sampler=Forgetful, progress=SILENT)


def test_the_sampler_is_told_which_weights_it_reads(tmp_path: Path) -> None:
    seen: list[Round] = []
    train(recipe(), tmp_path / "run", rewards=shorter, callbacks=[seen.append], progress=SILENT)
    versions = [{one.completion.versions for group in done.groups for one in group.samples} for done in seen]
    assert versions == [{(0, 0)}, {(1, 1)}]


def test_a_callback_that_returns_true_ends_the_run(tmp_path: Path) -> None:
    ended = train(recipe(), tmp_path / "run", rewards=shorter, callbacks=[lambda done: True], progress=SILENT)
    assert (ended.rounds, ended.finished) == (1, False)
    assert resume(ended.folder, rewards=shorter, progress=SILENT).finished


def test_a_loss_in_a_file_trains_and_resumes(tmp_path: Path) -> None:
    own = with_overrides(recipe(), [f"grpo.loss={HERE / 'cispo.py'}:CISPO"])
    whole = train(own, tmp_path / "whole", rewards=shorter, progress=SILENT)
    begun = train(own, tmp_path / "begun", rewards=shorter, callbacks=[stop_after(1)], progress=SILENT)
    assert_same_weights(resume(begun.folder, rewards=shorter, progress=SILENT), whole)
    usual = train(recipe(), tmp_path / "usual", rewards=shorter, progress=SILENT)
    with pytest.raises(AssertionError):
        assert_same_weights(usual, whole)


@pytest.mark.parametrize(
    "changes",
    [
        ("loss=cispo",),
        ("loss=sapo", "ratio=sequence"),
        ("loss=luspo", "ratio=sequence"),
        ("loss=vespo",),
        ("loss=grpo", "ratio=sequence", "delta=2.0", "off_policy_limit=0.5"),
        ("entropy_bonus=0.5",),
        ("beta=0.1", "kl=k2", "kl_correction=true"),
    ],
    ids=str,
)
def test_a_run_learns_otherwise_by_another_loss(changes: tuple[str, ...], tmp_path: Path) -> None:
    passes = with_overrides(recipe(), ["grpo.iterations=2"])
    usual = train(passes, tmp_path / "usual", rewards=shorter, progress=SILENT)
    changed = with_overrides(passes, [f"grpo.{change}" for change in changes])
    run = train(changed, tmp_path / "run", rewards=shorter, progress=SILENT)
    assert all(0 < row["grad_norm"] < 1e3 for row in RunFolder.open(run.folder).metrics())
    with pytest.raises(AssertionError):
        assert_same_weights(usual, run)


def stop_after(number: int) -> Any:
    """A callback that does what Ctrl-C does."""
    import os
    import signal

    def stop(done: Round) -> None:
        if done.position.round == number:
            os.kill(os.getpid(), signal.SIGINT)

    return stop


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dappo", r"grpo.loss: there is no loss `dappo` Did you mean `dapo`"),
        ("mine.py:X", r"mine.py: there is no such file"),
        (f"{HERE / 'cispo.py'}:CIPSO", r"no `CIPSO` in it Did you mean `CISPO`"),
        (f"{HERE / 'cispo.py'}:cispo", r"no Loss but function"),
    ],
)
def test_a_loss_that_is_not_there_is_told_before_anything_is_read(
    name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        train(with_overrides(recipe(), [f"grpo.loss={name}"]), tmp_path / "run", progress=SILENT)


def test_rows_and_a_lambda_from_memory(tmp_path: Path) -> None:
    given: list[Round] = []
    objects: dict[str, Any] = {
        "cases": ROWS,
        "rewards": {
            "level": lambda completions, level, **_: [
                n + len(c) for n, c in zip(level, completions, strict=True)
            ]
        },
    }
    whole = train(recipe(), tmp_path / "whole", **objects, callbacks=[given.append], progress=SILENT)
    for group in given[0].groups:
        sample = group.samples[0]
        assert group.scores["level"][0] == sample.case.columns["level"] + len(sample.text)
    begun = train(recipe(), tmp_path / "begun", **objects, callbacks=[stop_after(1)], progress=SILENT)
    assert not begun.finished
    with pytest.raises(CaseError, match=r"Python objects.*resume"):
        resume(begun.folder, progress=SILENT)
    with pytest.raises(RewardError, match=r"Python object.*resume"):
        resume(begun.folder, cases=ROWS, progress=SILENT)
    other = [{**row, "answer": "no"} for row in ROWS]
    with pytest.raises(RunError, match="not the cases this run began with"):
        resume(begun.folder, **{**objects, "cases": other}, progress=SILENT)
    assert_same_weights(resume(begun.folder, **objects, progress=SILENT), whole)


def test_rows_from_memory_are_evaluated(tmp_path: Path) -> None:
    run = train(recipe(), tmp_path / "run", cases=ROWS, rewards=shorter, progress=SILENT)
    evaluation = evaluate(run.folder, ROWS[:3])
    assert [case.gold for case in evaluation.cases] == ["0", "2", "4"]
    with pytest.raises(CaseError, match=r"memory, row 1.*answer"):
        evaluate(run.folder, [{"question": "?"}])


def test_a_data_set_is_rows(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    runs = [
        train(recipe(), tmp_path / str(n), cases=cases, rewards=["format", shorter], progress=SILENT)
        for n, cases in enumerate((ROWS, datasets.Dataset.from_list(ROWS)))
    ]
    assert_same_weights(*runs)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"cases": []}, "no cases"),
        ({"cases": "cases.jsonl"}, "str is neither cases nor rows"),
        ({"cases": [3]}, "int is neither cases nor rows"),
        ({"cases": [{"question": "?", "answr": "!"}]}, r"memory, row 1.*answer"),
        ({"rewards": 3}, "3 is no reward"),
        ({"rewards": {"x": None}}, "rewards, x: None is no reward"),
        ({"rewards": "accurcy"}, "accuracy"),
        ({"model": (torch.nn.Linear(1, 1), None)}, "Linear is no causal language model"),
    ],
)
def test_objects_that_are_none_are_refused(objects: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(GrandRoundsError, match=message):
        train(recipe(), tmp_path / "run", **objects, progress=SILENT)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_model_from_memory_trains_as_the_same_one_from_its_folder(adapter: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny_model_folder(folder, "llama")
    named = recipe(policy={"model": str(folder), "adapter": adapter, "precision": "float32"})

    def model() -> tuple[Any, Any]:
        return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    from_folder = train(named, tmp_path / "named", rewards=shorter, progress=SILENT)
    whole = train(named, tmp_path / "whole", rewards=shorter, model=model(), progress=SILENT)
    assert_same_weights(from_folder, whole)
    stop = [stop_after(1)]
    begun = train(named, tmp_path / "begun", rewards=shorter, model=model(), callbacks=stop, progress=SILENT)
    if adapter == "lora":
        with pytest.raises(PolicyError):
            resume(begun.folder, rewards=shorter, progress=SILENT)
    assert_same_weights(resume(begun.folder, rewards=shorter, model=model(), progress=SILENT), whole)


RANK = """
import json, sys
from datetime import timedelta
import numpy as np, torch, torch.distributed as dist
from grpo_support import ragged_groups, tiny_model, tiny_policy
from grandrounds.algorithm import ranks
from grandrounds.algorithm.grpo import LOSSES, clipped
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.loss import Totals
from grandrounds.algorithm.packing import packs

rank, size, store, budget = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
if size > 1:
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=size)
model = tiny_model("llama")
learner = Learner(tiny_policy(model), LearnerSettings(max_grad_norm=0.01), clipped)
groups = ragged_groups(5)
advantages = np.random.default_rng(0).normal(size=(3, 3))
lengths = np.array([len(one.tokens) for group in groups for one in group.completions])
totals = Totals(len(lengths), int(lengths.sum()), int(lengths.sum()), 1, 16)
weights = LOSSES["dapo"].token_weights(lengths, np.ones(9, bool), totals).reshape(3, 3)
made = packs(groups, advantages, weights, tokens_per_pack=budget)
rows = []
for _ in range(2):
    for pack in ranks.share(made):
        learner.accumulate(pack)
    rows.append(learner.step(1e-2))
print(json.dumps([len(made), rows, [float(p.double().sum()) for p in model.parameters()]]))
"""


@pytest.mark.parametrize("budget", [30, 10_000])
def test_two_processes_take_the_step_that_one_takes(budget: int, tmp_path: Path) -> None:
    """Clip, normalisers and metrics are those of the whole step, also where one process has no pack at all."""

    def start(rank: int, size: int) -> subprocess.Popen[str]:
        arguments = [str(rank), str(size), str(tmp_path / "store"), str(budget)]
        return subprocess.Popen(
            [sys.executable, "-c", RANK, *arguments], stdout=subprocess.PIPE, text=True, cwd=HERE
        )

    processes = [start(0, 1), start(0, 2), start(1, 2)]
    one, *both = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert all(process.returncode == 0 for process in processes)
    assert one[0] == (1 if budget == 10_000 else 3)
    assert one[1][0]["grad_norm"] > 0.01  # it is clipped
    assert both[0] == both[1]
    np.testing.assert_allclose(both[0][2], one[2], rtol=1e-9)
    for ours, theirs in zip(both[0][1], one[1], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)
