"""Shortcuts are named, warned of and closed: a planted one pays nothing once cases are balanced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grandrounds.algorithm.cursor import Weights, take
from grandrounds.cases.balance import MOST, label_weights
from grandrounds.cases.inspect import inspect_cases
from grandrounds.cases.load import load_cases
from grandrounds.cases.shortcuts import LabelFrequency, label_baselines, label_shift
from grandrounds.domains.medicine import phenopackets
from grandrounds.errors import CaseError, RunError
from grandrounds.recipe import CasesRecipe
from grandrounds.types import Answer, Case, CaseBook

DATA = Path(__file__).parents[2] / "shared/data/phenopackets.jsonl.gz"
NAMES = [f"illness {number}" for number in range(8)]


def planted(count: int, seed: int = 0, *, skew: float = 1.0) -> list[Case]:
    """Cases whose right option is often one of the first names; all are offered alike."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    chances = np.exp(-skew * np.arange(len(NAMES)))
    cases = []
    for number in range(count):
        gold = int(generator.choice(len(NAMES), p=chances / chances.sum()))
        others = generator.permutation([n for n in range(len(NAMES)) if n != gold])[:3]
        order = generator.permutation([gold, *others])
        options = dict(zip("ABCD", (NAMES[n] for n in order), strict=True))
        letter = next(key for key, text in options.items() if text == NAMES[gold])
        cases.append(
            Case(f"{seed}-{number}", f"Which {number}?", Answer("choice", NAMES[gold], letter), options)
        )
    return cases


def test_a_planted_shortcut_is_shown_on_both_splits_and_warned_of() -> None:
    report = inspect_cases(CaseBook(train=planted(400), test=planted(200, 1)))
    found = {cut.name: cut for cut in report.shortcuts}
    for by in ("count", "rate"):
        cut = found[f"label frequency, by {by}"]
        assert cut.accuracy > 0.7
        assert cut.train is not None
        assert cut.train > 0.7
    assert any(line.startswith("label frequency, by rate alone gets") for line in report.concerns)
    assert not any("differ" in line for line in report.concerns)


def test_even_answers_are_no_shortcut() -> None:
    report = inspect_cases(CaseBook(train=planted(400, skew=0), test=planted(200, 1, skew=0)))
    found = {cut.name: cut for cut in report.shortcuts}
    assert abs(found["label frequency, by rate"].accuracy - 0.25) < 0.1
    assert report.concerns == ()


def test_what_was_fitted_on_a_case_does_not_answer_it() -> None:
    """Else unique answers would be known: each was right once."""
    cases = [
        Case(f"{n}", "Which?", Answer("choice", f"name {n}", "A"), {"A": f"name {n}", "B": f"other {n}"})
        for n in range(50)
    ]
    assert LabelFrequency.fit(cases).accuracy(cases) == 1.0
    assert 0.2 < LabelFrequency.fit(cases).accuracy(cases, own=True) < 0.8


def test_baselines_answer_every_case_or_are_none() -> None:
    book = CaseBook(train=planted(100), test=planted(50, 1))
    (name,) = found = label_baselines(book, book.test)
    assert found[name].keys() == {case.id for case in book.test}
    open_case = Case("open", "Why?", Answer("text", "so"))
    assert label_baselines(book, [open_case, *book.test]) == {}
    assert label_baselines(CaseBook(train=(), test=book.test), book.test) == {}


def test_splits_with_other_answers_are_told_from_splits_by_chance() -> None:
    train = planted(300)
    assert label_shift(CaseBook(train=train, test=planted(150, 1))) is None
    shift = label_shift(CaseBook(train=train, test=planted(150, 1, skew=-1.0)))
    assert shift is not None
    assert shift > 0.5


def drawn(cases: list[Case], weights: np.ndarray, epochs: int = 20) -> list[Case]:
    count = len(cases)
    return [cases[i] for i in take(count, 0, count * epochs, 0, Weights(weights))]


def test_balanced_draws_close_a_planted_shortcut() -> None:
    cases = planted(600, skew=0.5)
    weights = label_weights(cases)
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() / weights.min() <= MOST**2
    seen = drawn(cases, weights)
    fitted = LabelFrequency.fit(seen)
    assert LabelFrequency.fit(cases).accuracy(cases) > 0.5
    assert fitted.accuracy(seen) < 0.32  # fitted on the very draws; chance is 0.25


@pytest.mark.skipif(not DATA.is_file(), reason="the published data are not here")
def test_balanced_draws_close_the_shortcut_of_rivals_chosen_by_likeness_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phenopackets, "_matched", lambda *unused: {})
    cases = list(load_cases(CasesRecipe(source=str(DATA)), seed=0).train)
    seen = drawn(cases, label_weights(cases), epochs=5)
    assert LabelFrequency.fit(cases).accuracy(cases, own=True) > 0.6
    assert LabelFrequency.fit(seen).accuracy(seen) < 0.35


def test_labels_without_options_are_drawn_equally_often() -> None:
    cases = [Case(f"{n}", "Does it?", Answer("label", "yes" if n % 4 else "no")) for n in range(80)]
    seen = [case.gold.text for case in drawn(cases, label_weights(cases))]
    assert abs(seen.count("yes") / len(seen) - 0.5) < 0.02


def test_cases_without_labels_cannot_be_balanced() -> None:
    with pytest.raises(CaseError, match="only where all have options"):
        label_weights([Case("1", "Why?", Answer("text", "so"))])


def test_draws_follow_the_weights_and_are_repeatable() -> None:
    weights = Weights(np.array([0.1, 0.4, 1.0, 2.5]))
    indices = take(4, 0, 4000, 3, weights)
    counts = np.bincount(indices, minlength=4) / 1000
    assert np.allclose(counts, weights.values, atol=0.05)
    assert indices == take(4, 0, 4000, 3, weights)
    assert sorted(take(4, 0, 4, 3, weights)) == [0, 1, 2, 3]  # no case twice in one draw


def recipe_of(balance: str) -> Any:
    from test_training_changes import recipe

    return recipe(cases={"balance": balance, "test_fraction": 0.3}, sft={"steps": 0})


def test_a_run_draws_balanced_cases_and_resumes(tmp_path: Path) -> None:
    from grandrounds.training.folder import RunFolder
    from grandrounds.training.progress import SilentProgress
    from grandrounds.training.run import resume, train

    cases = planted(40)
    plain, balanced = (
        train(recipe_of(balance), tmp_path / balance, cases=cases, progress=SilentProgress())
        for balance in ("none", "label")
    )
    first = [(run.folder / "rollouts/000001.parquet").read_bytes() for run in (plain, balanced)]
    assert first[0] != first[1]
    assert resume(balanced.folder, ["rounds=3"], cases=cases, progress=SilentProgress()).finished
    assert len(RunFolder.open(balanced.folder).metrics()) == 3


def choices_file(path: Path, golds: list[str]) -> str:
    options = ["gout", "sepsis"]
    rows = [
        {"id": str(n), "question": f"Case {n}?", "options": options, "answer": g} for n, g in enumerate(golds)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_run_on_another_file_is_compared_with_what_it_was_trained_on(tmp_path: Path) -> None:
    from test_training_changes import recipe

    from grandrounds import evaluate
    from grandrounds.training.progress import SilentProgress
    from grandrounds.training.run import resume, train

    own = choices_file(tmp_path / "own.jsonl", ["gout"] * 12 + ["sepsis"] * 4)
    run = train(
        recipe(cases={"source": own}, sft={"steps": 0}, rounds=1), tmp_path / "run", progress=SilentProgress()
    )
    other = choices_file(tmp_path / "other.jsonl", ["sepsis"] * 9 + ["gout"])
    (baseline,) = evaluate(run.folder, other).baselines
    assert (baseline.name, sum(baseline.correct.values())) == (
        "label frequency",
        1,
    )  # of gout, as it was trained
    fitted = json.loads((run.folder / "cases.json").read_text())
    (run.folder / "cases.json").write_text(json.dumps({**fitted, "read by": "another version"}))
    with pytest.raises(RunError, match="not the cases this run began with"):
        resume(run.folder, ["rounds=2"], progress=SilentProgress())


def test_the_frequency_of_labels_is_a_baseline_too() -> None:
    def labelled(name: str, answers: str) -> list[Case]:
        return [
            Case(f"{name}{number}", "Is it?", Answer("label", "yes" if answer == "y" else "no"))
            for number, answer in enumerate(answers)
        ]

    book = CaseBook(train=labelled("train", "yyyn"), test=labelled("test", "ynn"))
    right = label_baselines(book, book.test)["label frequency"]
    assert right == {"test0": True, "test1": False, "test2": False}
    assert label_baselines(book, book.train)["label frequency"] == {
        "train0": True,
        "train1": True,
        "train2": True,
        "train3": False,
    }
    of_another_file = LabelFrequency.fit(labelled("other", "nny")).state()
    assert label_baselines(book, book.test, of_another_file)["label frequency"]["test1"]
    mixed = [*book.test, Case("text", "Why?", Answer("text", "because"))]
    assert label_baselines(book, mixed) == {}
