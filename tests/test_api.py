"""The Python API: names that differ, and what stands beside the policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cases_phenopackets import world
from tiny_models import tiny_model_folder

from grandrounds import compare, evaluate, load_recipe, train
from grandrounds.cases.load import load_cases
from grandrounds.evaluating import distinct_names
from grandrounds.evaluation.statistics import mcnemar_exact, wilson
from grandrounds.recipe import Recipe
from grandrounds.training.target import Target, open_target

TINY = [
    "cases.test_fraction=0.3",
    "policy.scratch={layers: 1, hidden: 16, heads: 2, feedforward: 16, vocabulary: 300}",
    "sft.steps=0",
    "rounds=0",
    "grpo.max_new_tokens=4",
]


@pytest.mark.parametrize(
    ("names", "distinct"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
        (["a (2)", "a", "a"], ["a (2)", "a", "a (3)"]),
        (["a", "a", "a (2)"], ["a", "a (2)", "a (2) (2)"]),
        (["a (old)", "a"], ["a (old)", "a"]),
    ],
)
def test_only_equal_names_are_numbered(names: list[str], distinct: list[str]) -> None:
    targets = [Target(name, name, Recipe(), None, False) for name in names]
    assert distinct_names(targets) == distinct


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["runs/a/best", "runs/b/best", "runs/c"], ["a/best", "b/best", "c"]),
        (["runs/a/best", "runs/b/best", "runs/a/best"], ["a/best", "b/best", "a/best (2)"]),
        (["old/a/best", "new/a/best"], ["old/a/best", "new/a/best"]),
        (["regular=runs/a/best", "regular=runs/b/best"], ["regular (a/best)", "regular (b/best)"]),
        (["best=runs/c", "runs/a/best"], ["best (c)", "best"]),
        (["runs/c", "runs/c"], ["c", "c (2)"]),
        (["runs/c/.", "./runs/a"], ["c", "a"]),
    ],
)
def test_policies_of_one_name_are_told_apart_by_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in {one.rpartition("=")[2] for one in given}:
        Path(place).mkdir(parents=True, exist_ok=True)
        (Path(place) / "config.json").touch()
    assert distinct_names([open_target(one) for one in given]) == names


def test_a_run_is_called_by_its_folder_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").touch()
    monkeypatch.chdir(tmp_path / "mine")
    assert open_target(".").name == "mine"


def test_naive_bayes_answers_the_cases_that_the_policies_answer(tmp_path: Path) -> None:
    file, copy = tmp_path / "a.jsonl", tmp_path / "copy.jsonl"
    for path in (file, copy):
        path.write_text("".join(json.dumps(packet) + "\n" for packet in world()))
    recipe = load_recipe("phenopackets", [f"cases.source={file}", *TINY])
    run = train(recipe, tmp_path / "run").folder
    evaluation = evaluate(run, file, limit=20)
    book = load_cases(recipe.cases, seed=0)
    correct = book.knowledge.baselines(book.test)["naive Bayes"]
    baseline = next(own for own in evaluation.baselines if own.name == "naive Bayes")
    assert baseline.correct == {case.id: correct[case.id] for case in evaluation.cases}
    right = sum(baseline.correct.values())
    assert baseline.accuracy.interval == wilson(right, 20)
    assert evaluation.trained_on == 0
    pairs = compare([run, run], file, limit=20).baselines
    assert [pair.before for pair in pairs] == ["label frequency", "naive Bayes"]
    pair = pairs[1]
    assert pair.p == mcnemar_exact(pair.lost, pair.gained).p
    assert pair.lost - pair.gained == right - sum(case.first.correct for case in evaluation.cases)
    # In a copy of the file, its training cases are found out.
    assert evaluate(run, copy).trained_on > 100


def test_policies_of_different_contexts_are_compared_on_what_both_can_read(tmp_path: Path) -> None:
    folders = [tiny_model_folder(tmp_path / name, "qwen2") for name in ("long", "short")]
    config = json.loads((folders[1] / "config.json").read_text())
    (folders[1] / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 400}))
    rows = [
        {"id": str(n), "question": f"What is {n * 7919 ** (1 + 150 * (n == 2))}?", "answer": str(n)}
        for n in range(4)
    ]
    how = ["grpo.max_new_tokens=8", "prompt.system=''", "policy.device=cpu"]
    found = compare([*map(str, folders)], rows, overrides=how)
    assert found.count == 3
    skipped = [dict(one.skipped) for one in found.evaluations.values()]
    assert skipped == [
        {"too long for another policy": 1},
        {"prompt too long for the model's context": 1},
    ]
