"""Files as people save them: other encodings, other delimiters, several files, Excel. What was found is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import openpyxl
import pytest

from grandrounds.cases.load import load_cases
from grandrounds.cases.read import read_rows
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe
from grandrounds.types import CaseBook

ROWS = [(f"Wer heißt Müller {n}?", f"Jürgen {n}") for n in range(6)]
CSV = "question,answer\n" + "".join(f"{question},{answer}\n" for question, answer in ROWS)


def book(path: Path, **changes: object) -> CaseBook:
    return load_cases(CasesRecipe(source=str(path), test_fraction=0, **changes), seed=0)  # type: ignore[arg-type]


def texts(path: Path) -> list[tuple[str, str]]:
    return [(str(case.question), case.gold.text) for case in book(path).train]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_every_usual_encoding_is_read_and_said(name: str, encoding: str, tmp_path: Path) -> None:
    lines = "".join(json.dumps(dict(question=q, answer=a), ensure_ascii=False) + "\n" for q, a in ROWS)
    path, text = tmp_path / name, CSV if name == "a.csv" else lines
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path.write_bytes((mark + text).encode(encoding))
    assert texts(path) == ROWS
    notes = book(path).notes
    assert bool(notes) == (not encoding.startswith("utf-8"))
    assert all("a." in note and "not UTF-8" in note for note in notes)


def test_a_damaged_line_of_a_utf8_file_is_a_bad_row_and_no_other_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"question": q, "answer": a}, ensure_ascii=False).encode() for q, a in ROWS]
    lines[2] = lines[2].replace("ü".encode(), b"\xfc")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(CaseError, match="not UTF-8 text") as caught:
        book(path)
    assert caught.value.where == f"{path}:3"
    assert len(book(path, bad_rows="skip").train) == 5


@pytest.mark.parametrize(("sign", "said"), [(";", "`;`"), ("\t", "tabs"), ("|", "`|`"), (",", "")])
def test_every_usual_delimiter_is_read_and_said(sign: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV.replace(",", sign), encoding="utf-8")
    assert texts(path) == ROWS
    notes = book(path).notes
    assert [said in note for note in notes] == ([True] if said else [])


def test_a_folder_of_shards_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for number, (question, answer) in enumerate(ROWS):
        line = json.dumps({"question": question, "answer": answer}).encode()
        (tmp_path / f"part-{number}.jsonl.gz").write_bytes(gzip.compress(line))
    assert texts(tmp_path) == ROWS
    assert "6 files that belong together, from part-0.jsonl.gz to part-5.jsonl.gz" in book(tmp_path).notes[0]
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(CaseError, match=r"several kinds: \.csv, \.jsonl"):
        book(tmp_path)


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x", encoding="utf-8")
    with pytest.raises(CaseError, match="no files of cases"):
        read_rows(str(tmp_path))


def test_a_data_set_saved_to_disk_is_read(tmp_path: Path) -> None:
    made = datasets.Dataset.from_list([{"question": q, "answer": a} for q, a in ROWS])
    made.save_to_disk(str(tmp_path / "one"))
    assert texts(tmp_path / "one") == ROWS
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "two"))
    assert texts(tmp_path / "two") == ROWS


def test_an_excel_sheet_is_read_with_its_lines(tmp_path: Path) -> None:
    path, file = tmp_path / "a.xlsx", openpyxl.Workbook()
    for row in [("question", "answer"), *ROWS, (None, None), ("Wer?", None)]:
        file.active.append(row)
    file.save(path)
    with pytest.raises(CaseError, match="the gold answer is empty") as caught:
        book(path)
    assert caught.value.where == f"{path}:9"
    assert len(book(path, bad_rows="skip").train) == 6
    (tmp_path / "b.xlsx").write_bytes(b"no workbook")
    with pytest.raises(CaseError, match="no Excel file"):
        book(tmp_path / "b.xlsx")


def test_one_accent_is_read_as_western_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nWas?,Käse\n".encode("cp1252"))
    assert texts(path) == [("Was?", "Käse")]
    assert "read as cp1252" in book(path).notes[0]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("shift_jis", "東京はどこですか"), ("gb18030", "北京在哪里"), ("cp1252", "Où est l'été ?")],
)
def test_longer_texts_of_other_encodings_are_found_out(encoding: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("question,answer\n" + f"{text},{text}\n" * 8).encode(encoding))
    assert texts(path)[0] == (text, text)


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nКто это?,Иван\n".encode("cp1251"))
    named = book(path, encoding="cp1251")
    assert named.train[0].gold.text == "Иван"
    assert named.notes == []
    for wrong in ("utf-8", "no-such-encoding"):
        with pytest.raises(CaseError, match=f"this is no {wrong} text"):
            book(path, encoding=wrong)
