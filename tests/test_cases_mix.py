"""Several sources as one, a data set's own splits, and labels that are found as labels."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_training_changes import SILENT, recipe

from grandrounds.algorithm.cursor import Weights, take
from grandrounds.cases.load import load_cases
from grandrounds.cases.mix import case_weights
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe
from grandrounds.training.run import train


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sums(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": str(n), "question": f"What is {n} + {n}?", "answer": 2 * n, "reasoning": f"Twice {n}."}
        for n in range(first, first + count)
    ]


def mixed(folder: Path, share: float = 0.75) -> CasesRecipe:
    main = write(folder / "sums.jsonl", sums(30))
    further = write(folder / "more.jsonl", sums(10, 100))
    return CasesRecipe(source=main, mix={further: share}, test_fraction=0.2)


def test_each_source_gets_its_share_of_the_draws(tmp_path: Path) -> None:
    how = mixed(tmp_path)
    book = load_cases(how, seed=0)
    weights = case_weights(how, book.train)
    assert weights is not None
    drawn = take(len(book.train), 0, 40 * len(book.train), 0, Weights(weights))
    sources = Counter(book.train[place].tags["source"] for place in drawn)
    assert sources["more"] / sources.total() == pytest.approx(0.75, abs=0.01)
    assert {case.tags["source"] for case in book.test} == {"sums", "more"}
    assert book.read == 40


def test_ids_that_two_sources_share_get_the_source_in_front(tmp_path: Path) -> None:
    how = mixed(tmp_path).model_copy(update={"mix": {write(tmp_path / "more.jsonl", sums(10)): 0.5}})
    book = load_cases(how, seed=0)
    ids = [case.id for case in (*book.train, *book.test)]
    assert len(set(ids)) == 40
    assert {"sums-0", "more-0", "12"} <= set(ids)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mix": {"more.jsonl": 0.5, "sums.jsonl": 0.5}}, "shares add up to 1"),
        ({"mix": {"clinic": 0.5}, "clinic_train": 20, "clinic_test": 4}, "built as a whole"),
        ({"mix": {"none.jsonl": 0.5}}, "no such file"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = mixed(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaseError, match=said):
        load_cases(how.model_copy(update=changes), seed=0)


def test_a_run_learns_from_all_sources(tmp_path: Path) -> None:
    how = mixed(tmp_path)
    run = train(
        recipe(cases={"source": how.source, "mix": how.mix}, sft={"steps": 2, "batch_cases": 4}, rounds=4),
        tmp_path / "run",
        progress=SILENT,
    )
    import pyarrow.parquet as parquet

    traces = sorted((run.folder / "rollouts").glob("*.parquet"))
    drawn = {case for trace in traces for case in parquet.read_table(trace)["case_id"].to_pylist()}
    assert any(case.isdigit() and int(case) >= 100 for case in drawn)
    assert any(case.isdigit() and int(case) < 100 for case in drawn)


def answered(answers: list[str], count: int = 30, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"Question {n}?", "answer": answers[n % len(answers)], **more} for n in range(count)]


@pytest.mark.parametrize(
    ("answers", "count", "labels"),
    [
        (["Yes", "no", "maybe"], 30, ["maybe", "no", "yes"]),
        (["yes", "no", "maybe"], 9, []),  # too few to tell
        ([f"word {n}" for n in range(15)], 300, []),  # too many
        (["yes", "a text of four words"], 30, []),  # too long
        (["yes"], 30, []),  # one answer is no choice
    ],
)
def test_few_short_answers_are_labels(
    answers: list[str], count: int, labels: list[str], tmp_path: Path
) -> None:
    book = load_cases(CasesRecipe(source=write(tmp_path / "a.jsonl", answered(answers, count))), seed=0)
    assert book.fitted.get("labels", []) == labels
    assert {case.gold.kind for case in book.train} == {"label" if labels else "text"}
    assert any("3 labels: maybe; no; yes" in note for note in book.notes) == bool(labels)


def test_another_files_answers_are_labels_where_the_first_ones_were(tmp_path: Path) -> None:
    fitted = load_cases(
        CasesRecipe(source=write(tmp_path / "a.jsonl", answered(["yes", "no"]))), seed=0
    ).fitted
    other = CasesRecipe(source=write(tmp_path / "b.jsonl", answered(["no"], 3)), test_fraction=0)
    assert {case.gold.kind for case in load_cases(other, seed=0, fitted=fitted).train} == {"label"}
    assert {case.gold.kind for case in load_cases(other, seed=0).train} == {"text"}


def test_a_kind_that_is_given_stays(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", answered(["yes", "no"], kind="text"))
    assert {case.gold.kind for case in load_cases(CasesRecipe(source=source), seed=0).train} == {"text"}


def saved(folder: Path, **splits: int) -> str:
    import datasets

    parts = {
        name: datasets.Dataset.from_list(sums(count, 100 * place))
        for place, (name, count) in enumerate(splits.items())
    }
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return str(folder)


def test_a_data_sets_own_split_is_held_out(tmp_path: Path) -> None:
    source = saved(tmp_path / "set", train=12, test=4, validation=3)
    book = load_cases(CasesRecipe(source=source), seed=0)
    assert (len(book.train), len(book.test)) == (12, 3)
    assert any(f"own split is held out: {source}:validation" in note for note in book.notes)
    named = load_cases(CasesRecipe(source=source, test_source=f"{source}:test"), seed=0)
    assert (len(named.train), len(named.test)) == (12, 4)


def test_it_is_not_where_a_fraction_is_asked_for_or_a_split_is_named(tmp_path: Path) -> None:
    source = saved(tmp_path / "set", train=12, test=4)
    for how in (
        CasesRecipe(source=source, test_fraction=0),
        CasesRecipe(source=f"{source}:train", test_fraction=0),
    ):
        assert (len(load_cases(how, seed=0).train), len(load_cases(how, seed=0).test)) == (12, 0)
    with pytest.raises(CaseError, match="has no split `dev`") as refusal:
        load_cases(CasesRecipe(source=f"{source}:dev"), seed=0)
    assert "train, test" in str(refusal.value)
