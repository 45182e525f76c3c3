"""Cases set aside to choose the best policy by, so that the test cases stay unseen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_cases_phenopackets as phenopackets
from hypothesis import given
from hypothesis import strategies as st
from test_training_changes import Notes, recipe
from test_training_changes import rows as questions

from grandrounds import evaluate
from grandrounds.cases.inspect import inspect_cases
from grandrounds.cases.load import load_cases
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe
from grandrounds.report.run.facts import case_facts, read_logs
from grandrounds.report.run.provenance import PARTS, _split_rows
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import Run, resume, train
from grandrounds.training.target import open_target
from grandrounds.types import CaseBook

ASIDE = {"test_fraction": 0.2, "validation_fraction": 0.3}
SILENT = SilentProgress()


def rows(count: int, patients: int | None = None) -> list[dict[str, Any]]:
    """Questions of `patients` groups, by default each of its own."""
    groups = [{"group": f"patient {n % patients}"} if patients else {} for n in range(count)]
    return [row | group for row, group in zip(questions(count), groups, strict=True)]


def book(cases: list[dict[str, Any]], seed: int = 0, **changes: Any) -> CaseBook:
    return load_cases(CasesRecipe(**{**ASIDE, **changes}), seed=seed, given=cases)


def ids(cases: Any) -> set[str]:
    return {case.id for case in cases}


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_the_splits_are_whole_and_have_no_patient_in_common(count: int, patients: int, seed: int) -> None:
    found = book(rows(count, patients), seed)
    groups = [{case.group for case in part} for part in (found.train, found.validation, found.test)]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert ids(found.every) == {str(n) for n in range(count)}
    assert len(found.every) == count


def test_validation_comes_out_of_training_and_the_test_stays_as_it_was() -> None:
    with_, without = book(rows(400)), book(rows(400), validation_fraction=0.0)
    assert ids(with_.test) == ids(without.test)
    assert ids(with_.train) | ids(with_.validation) == ids(without.train)
    assert 0.2 < len(with_.validation) / len(without.train) < 0.4
    assert ids(book(rows(400)[::-1]).validation) == ids(with_.validation)


def test_which_cases_are_validation_does_not_follow_from_how_near_they_are_to_the_test() -> None:
    # With one keyed number for both, raising test_fraction would eat the validation cases first.
    near, far = book(rows(400)), book(rows(400), test_fraction=0.4)
    left = len(ids(near.validation) - ids(far.test)) / len(near.validation)
    assert 0.6 < left < 0.9


def test_a_book_that_has_validation_cases_keeps_them() -> None:
    given_ = book(rows(40), validation_fraction=0.0)
    mine = replace(given_, train=given_.train[2:], validation=given_.train[:2])
    assert ids(load_cases(CasesRecipe(**ASIDE), seed=0, given=mine).validation) == ids(mine.validation)


def test_of_a_mix_each_source_gives_some(tmp_path: Path) -> None:
    sources = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.jsonl"
        lines = [
            json.dumps({**row, "question": f"In {name}: {row['question']}", "id": f"{name}{row['id']}"})
            for row in rows(60)
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
        sources.append(str(path))
    mixed = load_cases(CasesRecipe(source=sources[0], mix={sources[1]: 0.5}, **ASIDE), seed=0)
    assert {case.id[0] for case in mixed.validation} == {"a", "b"}


def test_what_is_fitted_on_training_cases_does_not_know_validation_cases(tmp_path: Path) -> None:
    packets = phenopackets.world()
    whole = phenopackets.book(tmp_path / "a.jsonl", packets)
    found = phenopackets.book(tmp_path / "a.jsonl", packets, validation_fraction=0.3)
    assert ids(found.test) == ids(whole.test)
    assert ids(found.train) | ids(found.validation) < ids(
        whole.train
    )  # copies of training cases are left out
    assert found.validation
    assert all(len(case.options) == 4 for case in found.validation)
    groups = {case.group for case in found.validation}
    assert groups.isdisjoint(case.group for case in (*found.train, *found.test))
    assert set(found.fitted["groups"]) == {case.group for case in found.train}
    # A diagnosis of which too few training cases are left is not asked for in any split.
    most = phenopackets.book(tmp_path / "a.jsonl", packets, validation_fraction=0.8, min_train_cases=3)
    assert {case.gold.text for case in (*most.validation, *most.test)} <= {
        case.gold.text for case in most.train
    }


def test_cases_are_counted_by_split() -> None:
    found = book(rows(100))
    assert inspect_cases(found).splits == {
        "train": len(found.train),
        "validation": len(found.validation),
        "test": len(found.test),
    }
    assert "validation" not in inspect_cases(book(rows(100), validation_fraction=0.0)).splits


def test_nothing_left_to_train_on_names_the_key(tmp_path: Path) -> None:
    everything = recipe(cases={"test_fraction": 0.2, "validation_fraction": 1.0})
    with pytest.raises(CaseError, match="all 12 are held out") as error:
        train(everything, tmp_path / "run", cases=rows(12), progress=SILENT)
    assert error.value.where == "cases.validation_fraction"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, list[str]]:
    folder = tmp_path_factory.mktemp("run")
    source = folder / "cases.jsonl"
    source.write_text("\n".join(map(json.dumps, rows(40))), encoding="utf-8")
    how = {"every": 1, "cases": 5}
    notes = Notes()
    made = recipe(cases={"source": str(source), **ASIDE}, evaluation=how)
    return train(made, folder / "run", progress=notes), source, notes.lines


def split_of(source: Path) -> CaseBook:
    return load_cases(CasesRecipe(source=str(source), **ASIDE), seed=0)


def test_a_run_looks_at_validation_cases_alone_while_it_trains(run: tuple[Run, Path, list[str]]) -> None:
    folder, cases = RunFolder.open(run[0].folder), split_of(run[1])
    looked_at = set(folder.evaluations()[0]["right"])
    assert looked_at <= ids(cases.validation)
    assert len(looked_at) == 5
    assert any(line.startswith("Held-out accuracy (5 validation cases): ") for line in run[2])
    split = folder.split()
    assert split is not None
    assert {part: row["cases"] for part, row in split.items()} == {
        "train": len(cases.train),
        "validation": len(cases.validation),
        "held_out": len(cases.test),
    }
    assert folder.watched == "validation"
    assert resume(run[0].folder, ["rounds=3"], progress=SILENT).rounds == 3


def test_each_split_can_be_evaluated(run: tuple[Run, Path, list[str]]) -> None:
    cases = split_of(run[1])
    sizes = {"auto": cases.test, "validation": cases.validation, "train": cases.train, "all": cases.every}
    for split, expected in sizes.items():
        _, chosen = open_target(str(run[0].folder)).cases(str(run[1]), split)
        assert ids(chosen) == ids(expected), split
    assert evaluate(run[0].folder, cases, split="validation", limit=2).count == 2


def test_the_report_tells_them_apart(run: tuple[Run, Path, list[str]]) -> None:
    cases = split_of(run[1])
    logs = read_logs(run[0].folder)
    shown = dict(_split_rows(logs, case_facts(str(run[1]), True, cases, cases.test, cases.test)))
    assert list(shown) == list(PARTS.values())
    assert all("the same" in text for text in shown.values())
    assert logs.watched == "validation"
