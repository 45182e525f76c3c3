"""The formats of cases. Each is recognised by its columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from grandrounds.cases.formats.fields import Fields, missing_column
from grandrounds.cases.formats.own import COLUMNS, TRL_ANSWERS, own_case, trl_case
from grandrounds.cases.read import Row
from grandrounds.domain import Format, every
from grandrounds.errors import CaseError, RecipeError
from grandrounds.types import Case

# Our own formats. The more specific formats of domains come before them.
OWN: dict[str, Format] = {
    "trl": Format(
        tuple(frozenset(("prompt", answer)) for answer in TRL_ANSWERS), case=trl_case, known=COLUMNS
    ),
    "own": Format(
        tuple(
            map(
                frozenset,
                ({"question", "answer"}, {"messages", "answer"}, {"question", "options", "answer_letter"}),
            )
        ),
        case=own_case,
        known=COLUMNS,
    ),
}


def formats() -> dict[str, Format]:
    """All formats by name, in the order of recognition: more specific ones first."""
    return {**every("formats"), **OWN}


def recognise(rows: Sequence[Row], wanted: str, mapping: Mapping[str, str], source: str) -> str:
    """The format's name: `wanted`, or for "auto" the format that has the first row's columns.

    Raises CaseError where none fits.
    """
    if wanted != "auto":
        return wanted
    _check_mapping(mapping, wanted)
    columns = set(mapped(rows[0], mapping).values)
    for name, form in formats().items():
        if any(needed <= columns for needed in form.columns):
            return name
    # Not recognised: most likely our own format, with a column missing or misspelt.
    place = rows[0].place
    for needed in ("question", "answer"):
        if needed not in columns and columns & {"question", "answer", "messages", "prompt", "options"}:
            if needed == "question" and columns & {"messages", "prompt"}:
                continue
            raise missing_column(needed, rows[0].values, place)
    near = [
        name for name in rows[0].values if difflib.get_close_matches(name.lower(), ["question", "answer"])
    ]
    if near:
        raise missing_column("question", rows[0].values, place)
    raise CaseError(
        f"the format is not recognised by its columns {', '.join(sorted(columns)[:20])}",
        where=place,
        hint="Map columns (--set cases.columns.question=… --set cases.columns.answer=…), or give --format.",
    )


def mapped(row: Row, mapping: Mapping[str, str]) -> Row:
    """The row with its columns under our names. Raises CaseError where a mapped column is missing."""
    if not mapping:
        return row
    values = dict(row.values)
    for ours, theirs in mapping.items():
        if theirs not in row.values:
            close = difflib.get_close_matches(theirs, list(row.values), n=1)
            raise CaseError(
                f"there is no column `{theirs}`, which cases.columns names for `{ours}`",
                where=row.place,
                hint=f"Did you mean `{close[0]}`?"
                if close
                else f"There are {', '.join(list(row.values)[:20])}.",
            )
        values[ours] = row.values[theirs]
    for theirs in set(mapping.values()) - set(mapping):
        del values[theirs]
    return Row(values, row.place)


def build_cases(rows: Iterable[Row], name: str, mapping: Mapping[str, str]) -> list[Case]:
    """Every row as a case. Raises CaseError with the place of the first row that cannot be a case."""
    _check_mapping(mapping, name)
    rows, form = list(rows), formats()[name]
    build = form.choose(rows, mapping) if form.choose else form.case
    assert build is not None, f"the format {name} builds a whole book"
    cases: list[Case] = []
    places: dict[str, str] = {}
    for position, row in enumerate(rows):
        case = build(Fields(mapped(row, mapping).values, row.place, position))
        if case.id in places:
            raise CaseError(
                f"the id `{case.id}` is used twice, first at {places[case.id]}",
                where=row.place,
                hint="Give each case an id of its own, or remove the column: ids then follow the rows.",
            )
        places[case.id] = row.place
        cases.append(case)
    return cases


def _check_mapping(mapping: Mapping[str, str], name: str) -> None:
    """RecipeError for a mapped column that the format does not have. name: a format, or "auto" for all."""
    forms = [form for form in formats().values() if form.case] if name == "auto" else [formats()[name]]
    columns = (column for form in forms for needed in form.columns for column in needed)
    known = sorted({*columns, *(column for form in forms for column in form.known)})
    for ours in mapping:
        if ours not in known:
            close = difflib.get_close_matches(ours, known, n=1)
            raise RecipeError(
                f"no format has a column `{ours}`"
                if name == "auto"
                else f"the format `{name}` has no column `{ours}`",
                where=f"cases.columns.{ours}",
                hint=f"Did you mean `{close[0]}`?" if close else f"It has {', '.join(known)}.",
            )
