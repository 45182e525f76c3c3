"""Bad rows are listed all at once, with file, line, reason and hint; on request they are left out, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grandrounds.cases.inspect import inspect_cases
from grandrounds.cases.load import load_cases
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe

GOOD = [
    {"id": str(n), "question": f"Which {n}?", "options": {"A": "Gout", "B": "Sepsis"}, "answer": "A"}
    for n in range(5)
]
BAD: dict[str, tuple[Any, str]] = {
    "gold missing": ({**GOOD[0], "id": "m", "answer": None}, "the gold answer is empty"),
    "gold not among the options": ({**GOOD[0], "id": "n", "answer": "Gota"}, "not among the options"),
    "empty question": ({**GOOD[0], "id": "e", "question": " "}, "the column `question` is empty"),
    "id twice": ({**GOOD[0]}, "the id `0` is used twice"),
    "broken JSON": ('{"id": "b", "question": ', "not valid JSON"),
    "no object": ("[1, 2]", ""),
    "no options": ({**GOOD[0], "id": "o", "options": {}}, "no options"),
    "question a number": ({**GOOD[0], "id": "q", "question": 17}, "the question is a number"),
    "an image": ({**GOOD[0], "id": "i", "image": "x-ray.png"}, "an image"),
}


def file(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def load(path: Path, **changes: Any) -> Any:
    return load_cases(CasesRecipe(source=str(path), **changes), seed=0)


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    path = file(tmp_path / "cases.jsonl", [*GOOD, *(row for row, _ in BAD.values())])
    with pytest.raises(CaseError) as caught:
        load(path)
    lines = caught.value.what.splitlines()
    assert lines[0] == f"{len(BAD)} of {len(GOOD) + len(BAD)} rows cannot be used:"
    for number, (line, (_, words)) in enumerate(zip(lines[1:], BAD.values(), strict=True), len(GOOD) + 1):
        assert line.strip().startswith(f"{path}:{number}: ")
        assert words in line
    assert caught.value.where == str(path)
    assert "cases.bad_rows=skip" in caught.value.hint


@pytest.mark.parametrize("kind", BAD)
def test_each_kind_is_refused_by_itself_and_can_be_left_out(kind: str, tmp_path: Path) -> None:
    row, words = BAD[kind]
    path = file(tmp_path / "cases.jsonl", [*GOOD, row])
    with pytest.raises(CaseError) as caught:
        load(path)
    assert words in caught.value.what
    assert caught.value.where == f"{path}:{len(GOOD) + 1}"
    assert caught.value.hint.endswith("Or leave it out: --set cases.bad_rows=skip.")
    book = load(path, bad_rows="skip")
    assert len(book.train) + len(book.test) == len(GOOD)
    assert book.dropped == {"bad row": 1}
    assert book.left_out[0].startswith(f"{path}:{len(GOOD) + 1}: ")
    assert words in book.left_out[0]
    report = inspect_cases(book)
    assert (report.count, report.dropped) == (len(GOOD) + 1, {"bad row": 1})


def test_of_many_bad_rows_the_first_twenty_and_the_numbers_are_given(tmp_path: Path) -> None:
    empty = [{**GOOD[0], "id": f"e{n}", "question": ""} for n in range(30)]
    odd = [{**GOOD[0], "id": f"o{n}", "answer": "C"} for n in range(3)]
    path = file(tmp_path / "cases.jsonl", [*GOOD, *empty, *odd])
    with pytest.raises(CaseError) as caught:
        load(path)
    lines = caught.value.what.splitlines()
    assert len(lines) == 1 + 20 + 1
    assert "13 more: the column `question` is empty (10)" in lines[-1]
    assert "(3)" in lines[-1]


def test_a_file_that_is_something_else_gets_one_message(tmp_path: Path) -> None:
    path = file(tmp_path / "cases.jsonl", [{"question": f"Why {n}?", "answr": "so"} for n in range(9)])
    with pytest.raises(CaseError, match="no column `answer`") as caught:
        load(path, bad_rows="skip")
    assert caught.value.where == f"{path}:1"


def test_nothing_is_left_where_every_row_is_bad(tmp_path: Path) -> None:
    path = file(tmp_path / "cases.jsonl", [row for kind, (row, _) in BAD.items() if kind != "id twice"])
    with pytest.raises(CaseError, match=f"{len(BAD) - 1} of {len(BAD) - 1} rows cannot be used") as caught:
        load(path, bad_rows="skip")
    assert caught.value.hint == "No row would remain."


def test_a_broken_row_of_a_csv_file_is_one_of_the_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("question,answer\nWhy?,so\nWhy not?,so,so\nWho?,\n", encoding="utf-8")
    with pytest.raises(CaseError, match="2 of 3 rows cannot be used") as caught:
        load(path)
    assert f"{path}:3: the row has more or fewer fields" in caught.value.what
    assert f"{path}:4: the gold answer is empty" in caught.value.what
    assert len(load(path, bad_rows="skip", test_fraction=0).train) == 1


def test_a_row_without_a_mapped_column_is_one_bad_row_among_others(tmp_path: Path) -> None:
    rows = [{"story": f"What is wrong with {n}?", "verdict": f"Gout {n}"} for n in range(5)]
    path = file(tmp_path / "cases.jsonl", [{"verdict": "Gout"}, *rows, {"story": "What?", "verdict": ""}])
    columns = {"question": "story", "answer": "verdict"}
    with pytest.raises(CaseError) as caught:
        load(path, columns=columns)
    assert "2 of 7 rows cannot be used" in caught.value.what
    assert f"{path}:1: there is no column `story`" in caught.value.what
    book = load(path, columns=columns, bad_rows="skip")
    assert (len([*book.train, *book.test]), len(book.left_out)) == (5, 2)


def test_a_column_that_no_row_has_is_a_mistake_about_the_file(tmp_path: Path) -> None:
    path = file(tmp_path / "cases.jsonl", [{"story": "What?", "verdict": "Gout"}] * 3)
    with pytest.raises(CaseError, match="there is no column `tale`") as caught:
        load(path, columns={"question": "tale", "answer": "verdict"})
    assert "cases.bad_rows" not in caught.value.hint
