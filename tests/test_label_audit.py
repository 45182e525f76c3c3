"""Suspect gold labels: cases that all completions of a group answer otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grandrounds.cli import main
from grandrounds.evaluation.suspects import suspects


def group(number: int, case: str, gold: str, given: list[str | None], place: int = 0) -> list[dict[str, Any]]:
    """A group's rows of a trace."""
    return [
        {
            "round": number,
            "group": place,
            "case_id": case,
            "prompt": f"What has {case}?",
            "completion": f"<reasoning>It looks like {one}.</reasoning>",
            "answer": one,
            "given": one,
            "gold": gold,
            "correct": one == gold,
        }
        for one in given
    ]


def test_a_case_is_suspect_where_all_completions_agree_on_another_answer() -> None:
    rows = [
        *group(1, "agreed", "a", ["b"] * 4, 0),
        *group(1, "divided", "a", ["b", "c", "b", "b"], 1),
        *group(1, "right", "a", ["a"] * 4, 2),
        *group(1, "nearly", "a", ["b", "b", "b", "a"], 3),
        *group(1, "not understood", "a", [None] * 4, 4),
    ]
    (found,) = suspects(rows)
    assert (found.case_id, found.gold, found.answer, found.completions) == ("agreed", "a", "b", 4)
    assert found.reasoning == "<reasoning>It looks like b.</reasoning>"


def test_only_the_last_time_counts_and_the_most_often_contradicted_come_first() -> None:
    rows = [
        *group(1, "changed its mind", "a", ["b", "b"], 0),
        *group(1, "twice", "a", ["b", "b"], 1),
        *group(2, "once", "a", ["c", "c"], 0),
        *group(3, "changed its mind", "a", ["a", "b"], 0),
        *group(3, "twice", "a", ["b", "b"], 1),
        *group(4, "another each time", "a", ["b", "b"], 0),
        *group(5, "another each time", "a", ["c", "c"], 0),
    ]
    found = suspects(reversed(rows))
    assert [(one.case_id, one.times, one.asked) for one in found] == [
        ("twice", 2, 2),
        ("once", 1, 1),
        ("another each time", 1, 2),
    ]


def run_folder(path: Path, rows: list[dict[str, Any]]) -> Path:
    (path / "rollouts").mkdir(parents=True)
    (path / "recipe.yaml").write_text("name: one\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), path / "rollouts/000001.parquet")
    return path


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["grandrounds", "audit", *arguments])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def test_the_command_prints_the_first_and_writes_all(tmp_path: Path, audit: Run) -> None:
    run = run_folder(
        tmp_path / "run", [*group(1, "one\x1b[2J", "a", ["b"] * 2, 0), *group(1, "two", "a", ["b"] * 2, 1)]
    )
    _, printed, _ = audit(str(run), "--limit", "1")
    assert "and 1 more" in printed
    assert "\x1b" not in printed
    lines = (run / "suspects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["case_id"] for line in lines] == ["one\x1b[2J", "two"]
    assert audit(str(run), "--json")[1].splitlines() == lines


def test_where_nothing_is_suspect_it_says_so(tmp_path: Path, audit: Run) -> None:
    run = run_folder(tmp_path / "run", group(1, "right", "a", ["a", "b"]))
    assert "No case" in audit(str(run))[1]


def test_rollouts_of_an_older_version_are_named(tmp_path: Path, audit: Run) -> None:
    rows = [
        {name: value for name, value in row.items() if name != "given"} for row in group(1, "x", "a", ["b"])
    ]
    code, _, said = audit(str(run_folder(tmp_path / "run", rows)))
    assert code == 1
    assert "older version" in said
