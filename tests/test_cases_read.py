"""Rows are read from every kind of file, and what cannot be read is named with its place."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.cases.read import read_rows
from grandrounds.errors import CaseError

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": 'Which, "if" any?\nSay.'},
    {"id": "b", "question": "Größe?"},
]


def written(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows in the format that the path's ending asks for."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    plain = path.with_name(path.name.removesuffix(".gz"))
    if kind == "jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "json":
        plain.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "csv":
        with plain.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), plain)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def complaint(path: Path, content: bytes) -> CaseError:
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_rows(str(path))
    assert caught.value.what
    return caught.value


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str, packed: str) -> None:
    rows = read_rows(str(written(tmp_path / f"cases.{kind}{packed}")))
    assert [row.values for row in rows] == ROWS


def test_a_mapping_of_ids_to_rows_gives_rows_with_ids(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"17": {"QUESTION": "Why?"}, "18": {"QUESTION": "How?"}}')
    assert [row.values["id"] for row in read_rows(str(tmp_path / "rows.json"))] == ["17", "18"]


def test_json_lines_under_the_wrong_name_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert [row.values for row in read_rows(str(tmp_path / "rows.json"))] == [{"a": 1}, {"a": 2}]


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbfquestion,answer\nWhy?,yes\n")
    assert read_rows(str(tmp_path / "rows.csv"))[0].values == {"question": "Why?", "answer": "yes"}


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.none(), max_size=3), min_size=1)
)
def test_json_lines_read_back_whatever_text_they_hold(
    tmp_path_factory: Any, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "cases.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline=""
    )
    assert [row.values for row in read_rows(str(path))] == rows


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', ":2"),
        ("a.jsonl", b'{"a": 1}\n\n[1, 2]\n', ":3"),
        ("a.jsonl", b"\n  \n", ":1"),
        ("a.json", b'[\n{"a": 1},\n{"a": }\n]', ":3"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", ":3"),
        ("a.csv", b'a,b\n1,"2\n2",3\n', ":2"),
        ("a.csv", b"", ":1"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    try:
        (error,) = [row.error for row in read_rows(str(path)) if row.error is not None]
    except CaseError as whole:  # nothing can be read behind it
        error = whole
    assert error.where == f"{path}{line}"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet", "a.txt", "a.parquet.gz", "a.csv"])
def test_what_is_no_such_file_is_said_plainly(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / name) in complaint(tmp_path / name, b"a,b").where


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    assert "broken" in complaint(tmp_path / "a.jsonl.gz", whole[:-20]).what


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path / "cases.jsonl")
    with pytest.raises(CaseError, match=r"Did you mean .*cases\.jsonl"):
        read_rows(str(tmp_path / "case.jsonl"))


def test_a_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="folder"):
        read_rows(str(tmp_path))


def test_a_hub_dataset_that_cannot_be_reached_is_one_clear_message() -> None:
    with pytest.raises(CaseError, match="Hub") as caught:
        read_rows("nobody/no-such-dataset")
    assert caught.value.where == "nobody/no-such-dataset"


def test_the_limit_stops_before_a_later_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\nbroken\n')
    assert len(read_rows(str(tmp_path / "a.jsonl"), limit=2)) == 2
