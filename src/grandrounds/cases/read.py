"""Reads rows of files and Hub datasets, each with its place, so that every error can name a line."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from grandrounds.cases.text import decoded, delimiter_of
from grandrounds.domain import every
from grandrounds.errors import CaseError
from grandrounds.hub import settle
from grandrounds.loading import did_you_mean

# A data set's own splits to hold out, the first that it has: tests are kept for the end, and often have no answers.
HELD_OUT = ("validation", "valid", "dev", "test")
_HUB_NAME = re.compile(r"^[\w.-]+(?:/[\w.-]+)?(?::[\w.\[\]%+-]+)?$")


@dataclass(frozen=True)
class Row:
    """One row of a source. place: "file:line" where lines exist, else "file, row 3". error: why it cannot be read."""

    values: dict[str, Any]
    place: str
    error: CaseError | None = None


class Rows(list[Row]):
    """The rows of a source.

    notes: what had to be found out to read them, for the user to check. test_source: of a data set in splits, its own
    held-out one.
    """

    def __init__(
        self, rows: Iterable[Row], notes: list[str] | None = None, test_source: str | None = None
    ) -> None:
        super().__init__(rows)
        self.notes = [] if notes is None else notes
        self.test_source = test_source


def read_rows(source: str, limit: int | None = None, encoding: str | None = None) -> Rows:
    """All rows of a file or Hub dataset ("owner/name" or "owner/name:split"), or the first `limit`.

    A row that cannot be read carries its error. Raises CaseError for a source that does not exist, cannot be read, is
    not what its name says, or is empty.
    """
    path = Path(source).expanduser()
    notes: list[str] = []
    if path.is_file():
        taken = Rows(islice(_read_file(path, encoding, notes), limit), notes)
    elif path.is_dir() and not _is_dataset(path):
        taken = Rows(islice(_read_folder(path, encoding, notes), limit), notes)
    else:
        taken = _read_dataset(source, path, limit)
    if not taken:
        raise CaseError("there are no rows in it", where=source, hint="Check that the file is complete.")
    return taken


def _read_folder(path: Path, encoding: str | None, notes: list[str]) -> Iterator[Row]:
    """The folder's files in the order of their names."""
    files = sorted(file for file in path.iterdir() if file.is_file() and _suffix(file) in READERS)
    if not files:
        raise CaseError(
            "there are no files of cases in the folder",
            where=str(path),
            hint=f"Files end in {', '.join(READERS)}.",
        )
    if len({_suffix(file) for file in files}) > 1:
        raise CaseError(
            f"the folder holds files of several kinds: {', '.join(sorted({_suffix(file) for file in files}))}",
            where=str(path),
            hint="Name one file, or a folder whose files belong together.",
        )
    notes.append(
        f"{path} is read as {len(files)} files that belong together, from {files[0].name} to {files[-1].name}."
    )
    for file in files:
        yield from _read_file(file, encoding, notes)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(path: Path, encoding: str | None, notes: list[str]) -> Iterator[Row]:
    data, suffix = _bytes(path), _suffix(path)
    if suffix not in READERS:
        raise CaseError(
            f"files ending in `{suffix or path.name}` are not read",
            where=str(path),
            hint=f"Use {', '.join(READERS)}, each also with .gz.",
        )
    if not data.strip():
        raise CaseError("the file is empty", where=f"{path}:1", hint="Check that it is complete.")
    if suffix not in BINARY:
        data = decoded(path, data, encoding, notes)
    return READERS[suffix](path, data, notes)


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CaseError(
            f"the compressed file is broken: {error}", where=str(path), hint="Fetch or compress it again."
        ) from None
    except OSError as error:
        raise CaseError(
            f"the file cannot be read: {error.strerror}", where=str(path), hint="Check its permissions."
        ) from None


def _json_lines(path: Path, data: bytes, notes: list[str]) -> Iterator[Row]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                yield Row(_object(_parsed(_text(line, place), place), place), place)
            except CaseError as error:
                yield Row({}, place, error)


def _json(path: Path, data: bytes, notes: list[str]) -> Iterator[Row]:
    """Rows of a list of rows, of rows by id, of a single row, or of JSON Lines with the wrong suffix."""
    text = _text(data, str(path))
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and "\n" in text.strip():
            yield from _json_lines(path, data, notes)
            return
        _broken(error, f"{path}:{error.lineno}")
    except (ValueError, RecursionError) as error:
        _broken(error, str(path))
    if isinstance(whole, dict) and whole and all(isinstance(value, dict) for value in whole.values()):
        for key, value in whole.items():
            yield Row({"id": key, **value}, f"{path}, id {key}")
    elif isinstance(whole, dict):
        yield Row(whole, f"{path}:1")
    elif isinstance(whole, list):
        for number, value in enumerate(whole, 1):
            place = f"{path}, row {number}"
            try:
                yield Row(_object(value, place), place)
            except CaseError as error:
                yield Row({}, place, error)
    else:
        _object(whole, f"{path}:1")


def _csv(path: Path, data: bytes, notes: list[str]) -> Iterator[Row]:
    text = _text(data, str(path))
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    delimiter = delimiter_of(path, text, notes)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    end = 1
    while True:
        place = f"{path}:{end + 1}"  # the row's first line, since fields may contain line breaks
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CaseError(f"the row is broken: {error}", where=place, hint="Correct the row.") from None
        if row is None:
            return
        end = reader.line_num
        wrong: CaseError | None = None
        if None in row or None in row.values():
            wrong = CaseError(
                f"the row has more or fewer fields than the header's {len(reader.fieldnames or ())}",
                where=place,
                hint='Put fields that hold commas or line breaks in "double quotes".',
            )
        yield Row({} if wrong else dict(row), place, wrong)


def _parquet(path: Path, data: bytes, notes: list[str]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise CaseError(
            f"this is no Parquet file: {str(error).splitlines()[0]}", where=str(path), hint="Write it again."
        ) from None
    for number, values in enumerate(table.to_pylist(), 1):
        yield Row(values, f"{path}, row {number}")


def _is_dataset(path: Path) -> bool:
    """Whether `datasets` saved it to disk."""
    return (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()


def _read_dataset(source: str, path: Path, limit: int | None) -> Rows:
    """Rows of a data set that `datasets` saved to disk, or of one on the Hub; each may be followed by ":split"."""
    name, _, split = source.partition(":")
    folder = path if _is_dataset(path) else Path(name).expanduser()
    if _is_dataset(folder):
        loaded = _saved(folder, split if folder != path else "", source)
        name = name if folder != path else source
    else:
        loaded = _from_hub(source, path)
    test_source = None
    if isinstance(loaded, dict):
        split = _split_of(loaded, source, name)
        held_out = next((other for other in HELD_OUT if other in loaded and split == "train"), None)
        test_source = f"{name}:{held_out}" if held_out else None
        loaded = loaded[split]
    place = f"{name}:{split}" if split else name
    rows = (Row(dict(values), f"{place}, row {number}") for number, values in enumerate(loaded, 1))
    return Rows(islice(rows, limit), test_source=test_source)


def _saved(folder: Path, split: str, source: str) -> Any:
    import datasets

    loaded = datasets.load_from_disk(str(folder))
    if not split:
        return loaded
    if not isinstance(loaded, dict) or split not in loaded:
        raise CaseError(
            f"the data set has no split `{split}`",
            where=source,
            hint=f"It has {', '.join(loaded)}." if isinstance(loaded, dict) else "Leave the split out.",
        )
    return loaded[split]


def _from_hub(source: str, path: Path) -> Any:
    """A data set on the Hub, or its local download."""
    looks_like_path = path.is_absolute() or source.startswith((".", "~")) or path.suffix.lower() in _SUFFIXES
    if looks_like_path or not _HUB_NAME.match(source):
        _missing(source, path)
    settle()
    import datasets

    name, _, split = source.partition(":")
    try:
        return datasets.load_dataset(name, split=split or None)
    except Exception as error:  # the Hub's client raises a dozen unrelated types when it cannot get a dataset
        raise CaseError(
            f"there is no such file, and no such dataset could be loaded from the Hub "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''})",
            where=source,
            hint=did_you_mean(name, list(every("sources")))
            or "Check the name and the connection, or download the data and name the file.",
        ) from None


def _split_of(loaded: Mapping[str, Any], source: str, name: str) -> str:
    """The split that is read where none is named: `train`, or the only one."""
    if "train" not in loaded and len(loaded) != 1:
        raise CaseError(
            f"the dataset has several splits: {', '.join(loaded)}",
            where=source,
            hint=f"Name one: {name}:{next(iter(loaded))}",
        )
    return "train" if "train" in loaded else next(iter(loaded))


def _excel(path: Path, data: bytes, notes: list[str]) -> Iterator[Row]:
    """The first sheet, its first row the header."""
    try:
        import openpyxl
    except ImportError:
        raise CaseError(
            "Excel files need openpyxl, which is not installed",
            where=str(path),
            hint="pip install 'grandrounds[excel]', or save the sheet as CSV.",
        ) from None
    try:
        sheet = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True).worksheets[0]
    except Exception as error:  # zipfile's, xml's and openpyxl's own; each means that this is none
        raise CaseError(
            f"this is no Excel file: {type(error).__name__}", where=str(path), hint="Save it again."
        ) from None
    rows = sheet.iter_rows(values_only=True)
    header = [str(name) for name in next(rows, ()) if name is not None]
    notes.append(f"Of {path.name} the sheet `{sheet.title}` is read.")
    for number, values in enumerate(rows, 2):
        if any(value is not None for value in values):
            yield Row(dict(zip(header, values, strict=False)), f"{path}:{number}")


Reader = Callable[[Path, bytes, list[str]], Iterator[Row]]
READERS: dict[str, Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".xlsx": _excel,
}
BINARY = (".parquet", ".xlsx")
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".gz", ".txt", ".xlsx", ".zip")


def _missing(source: str, path: Path) -> NoReturn:
    folder = path.parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    hint = f"Did you mean {folder / close[0]}?" if close else f"Paths are relative to {Path.cwd()}."
    raise CaseError("there is no such file", where=source, hint=hint)


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not place.rpartition(":")[2].isdigit():
            place = f"{place}:{1 + data.count(bytes([10]), 0, error.start)}"
        raise CaseError(
            f"this is not UTF-8 text (byte 0x{data[error.start]:02x})", where=place, hint="Save it as UTF-8."
        ) from None


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _broken(error, place)


def _broken(error: Exception, place: str) -> NoReturn:
    why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    raise CaseError(f"this is not valid JSON: {why}", where=place, hint="Correct or remove it.") from None


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CaseError(
            f"a row should be an object of columns, not {type(value).__name__}",
            where=place,
            hint='Write it as {"question": …, "answer": …}.',
        )
    return value
