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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from grandrounds.errors import CaseError

_HUB_NAME = re.compile(r"^[\w.-]+(?:/[\w.-]+)?(?::[\w.\[\]%+-]+)?$")


@dataclass(frozen=True)
class Row:
    """One row of a source. place: "file:line" where lines exist, else "file, row 3"."""

    values: dict[str, Any]
    place: str


def read_rows(source: str, limit: int | None = None) -> list[Row]:
    """All rows of a file or Hub dataset ("owner/name" or "owner/name:split"), or the first `limit`.

    Raises CaseError for a source that does not exist, cannot be read, has the wrong file type, or is empty.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        raise CaseError("a folder is no source of cases", where=source, hint="Name one file in it.")
    rows = _read_file(path) if path.is_file() else _read_hub(source, path)
    taken = list(islice(rows, limit))
    if not taken:
        raise CaseError("there are no rows in it", where=source, hint="Check that the file is complete.")
    return taken


def _read_file(path: Path) -> Iterator[Row]:
    name, data = path.name.lower(), _bytes(path)
    readers: dict[str, Callable[[Path, bytes], Iterator[Row]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _csv,
        ".parquet": _parquet,
    }
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in readers:
        raise CaseError(
            f"files ending in `{suffix or path.name}` are not read",
            where=str(path),
            hint=f"Use {', '.join(readers)}, each also with .gz.",
        )
    if not data.strip():
        raise CaseError("the file is empty", where=f"{path}:1", hint="Check that it is complete.")
    return readers[suffix](path, data)


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


def _json_lines(path: Path, data: bytes) -> Iterator[Row]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            place = f"{path}:{number}"
            yield Row(_object(_parsed(_text(line, place), place), place), place)


def _json(path: Path, data: bytes) -> Iterator[Row]:
    """Rows of a list of rows, of rows by id, of a single row, or of JSON Lines with the wrong suffix."""
    text = _text(data, str(path))
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and "\n" in text.strip():
            yield from _json_lines(path, data)
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
            yield Row(_object(value, place), place)
    else:
        _object(whole, f"{path}:1")


def _csv(path: Path, data: bytes) -> Iterator[Row]:
    text = _text(data, str(path))
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    delimiter = "\t" if ".tsv" in path.suffixes else ","
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
        if None in row or None in row.values():
            raise CaseError(
                f"the row has more or fewer fields than the header's {len(reader.fieldnames or ())}",
                where=place,
                hint='Put fields that hold commas or line breaks in "double quotes".',
            )
        yield Row(dict(row), place)


def _parquet(path: Path, data: bytes) -> Iterator[Row]:
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


def _read_hub(source: str, path: Path) -> Iterator[Row]:
    """Rows of a dataset on the Hub, or of its local download."""
    looks_like_path = path.is_absolute() or source.startswith((".", "~")) or path.suffix.lower() in _SUFFIXES
    if looks_like_path or not _HUB_NAME.match(source):
        _missing(source, path)
    import datasets

    name, _, split = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, split=split or None)
    except Exception as error:  # the Hub's client raises a dozen unrelated types when it cannot get a dataset
        raise CaseError(
            f"there is no such file, and no such dataset can be had from the Hub "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''})",
            where=source,
            hint="Check the name and the connection, or download the data and name the file.",
        ) from None
    if isinstance(loaded, dict):
        if "train" not in loaded and len(loaded) != 1:
            raise CaseError(
                f"the dataset has several splits: {', '.join(loaded)}",
                where=source,
                hint=f"Name one: {name}:{next(iter(loaded))}",
            )
        split = "train" if "train" in loaded else next(iter(loaded))
        loaded = loaded[split]
    for number, values in enumerate(loaded, 1):
        yield Row(dict(values), f"{name}:{split}, row {number}")


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
