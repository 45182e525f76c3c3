"""The tables that are made of TRL's curves, of planted labels and of attacked rewards."""

from __future__ import annotations

import ast
from typing import Any

import label_audit
import numpy as np
import pytest
import reward_attacks
import trl_curves

from grandrounds.recipe import Recipe
from grandrounds.types import Answer, Case


def run_of(rewards: list[float], wall: float, processor: float) -> dict[str, Any]:
    ends = [{"wall": wall * step, "processor": processor * step} for step in range(len(rewards))]
    return {"rewards": rewards, "ends": [{"wall": -99.0, "processor": -99.0}, *ends[1:]]}


def test_curves_are_compared_over_seeds_and_the_first_step_is_not_timed() -> None:
    runs = {
        "trl": [run_of([0.0, 0.0, 1.0, 1.0, 1.0], 6.0, 4.0), run_of([0.0, 0.5, 0.5, 1.0, 1.0], 6.0, 4.0)],
        "ours": [run_of([0.0, 0.0, 1.0, 1.0, 1.5], 2.0, 1.0), run_of([0.5, 0.5, 0.5, 1.0, 1.0], 2.0, 1.0)],
    }
    row = trl_curves.row_of("clinic", runs)
    assert row[1:5] == ["2 × 5", "0.00 → 1.00", "0.25 → 1.25", "+0.100 ± 0.000"]
    assert row[5:] == ["6.0", "2.0 (3.0 times as fast)", "4.0", "1.0 (4.0 times as fast)"]
    assert trl_curves.difference(np.array([0.1])) == "+0.100, one seed"


def test_the_script_is_one_for_both_but_for_its_import() -> None:
    theirs = trl_curves.SCRIPT.read_text(encoding="utf-8")
    ours = theirs.replace("from trl import", "from grandrounds.trl import")
    changed = [(a, b) for a, b in zip(theirs.splitlines(), ours.splitlines(), strict=True) if a != b]
    assert changed == [
        ("from trl import GRPOConfig, GRPOTrainer", "from grandrounds.trl import GRPOConfig, GRPOTrainer")
    ]
    ast.parse(ours)


def group(number: int, case: str, gold: str, given: str) -> list[dict[str, Any]]:
    row = {
        "round": number,
        "group": int(case),
        "case_id": case,
        "prompt": "?",
        "completion": "",
        "answer": given,
        "given": given,
        "gold": gold,
        "correct": given == gold,
    }
    return [row, row]


def test_precision_and_recall_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_audit, "CASES", 4)
    monkeypatch.setattr(label_audit, "PER_ROUND", 4)
    monkeypatch.setattr(label_audit, "RANKS", (1,))
    first = [*group(1, "0", "a", "b"), *group(1, "1", "a", "b"), *group(1, "2", "a", "a")]
    rows = [*first, *group(2, "0", "a", "b"), *group(2, "1", "a", "c"), *group(2, "3", "a", "a")]
    assert label_audit.table(rows, frozenset({"0", "3"})) == [
        ["first 1", "1", "1", "100%", "50%"],
        ["all, each case asked once", "2", "1", "50%", "50%"],
        ["all, each case asked 2 times", "2", "1", "50%", "50%"],
    ]


def test_wrong_labels_in_a_record_are_found_by_precision_and_recall() -> None:
    """A policy that is always right: every wrong label is in the queue, and nothing else."""
    options = {"A": "one", "B": "two", "C": "three"}
    cases = {str(n): Case(str(n), "?", Answer("choice", "two", "B"), options) for n in range(40)}
    rows = [row for n in range(40) for row in group(n, str(n), "two", "two")]
    made = label_audit.over_draws("all", rows, cases)
    assert made == ["all, 40 cases", "2", "2", "100% ± 0%", "100% ± 0%"]


def test_a_flipped_case_has_another_of_its_options_as_gold() -> None:
    case = Case("1", "?", Answer("choice", "two", "B"), {"A": "one", "B": "two", "C": "three"})
    random = np.random.Generator(np.random.Philox(key=1))
    made = [label_audit.flipped(case, random).gold for _ in range(20)]
    assert {(gold.letter, gold.text) for gold in made} == {("A", "one"), ("C", "three")}


def test_what_fails_is_named_in_the_table() -> None:
    rows = [{"name": "gold answer", "cases": 3, "verdict": "", "fails": False}]
    rows += [{"name": "nothing", "cases": 3, "verdict": "pays", "fails": True}]
    rows += [{"name": "long", "cases": 3, "verdict": "length costs nothing", "fails": False}]
    made = reward_attacks.row_of("t", Recipe(), {"rows": rows, "findings": ["slow: 2 s"], "seconds": 2.0})
    assert made == ("t", "`accuracy`, `format`", "3", "3", "slow: 2 s; nothing", "1", "2")
