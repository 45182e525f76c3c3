"""The formats that cases come in: each recognised by its columns, each a function from a row to a case."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from grandrounds.cases.formats.fields import Fields, missing_column
from grandrounds.cases.formats.own import COLUMNS, TRL_ANSWERS, own_case, trl_case
from grandrounds.cases.formats.published import mediq_case, medmcqa_case, medqa_case, pubmedqa_case
from grandrounds.cases.read import Row
from grandrounds.errors import CaseError, RecipeError
from grandrounds.types import Case

PHENOPACKETS = "phenopackets"


@dataclass(frozen=True)
class Format:
    """columns: those it is recognised by, any of these sets. known: further ones that it reads."""

    columns: tuple[frozenset[str], ...]
    case: Callable[[Fields], Case]
    known: tuple[str, ...] = ()


def _sets(*columns: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(names.split()) for names in columns)


# In the order of recognition: the more particular ones first.
FORMATS: dict[str, Format] = {
    "medmcqa": Format(_sets("question opa opb opc opd cop"), lambda f: medmcqa_case(f, 1), ("id", "exp")),
    "mediq": Format(
        _sets("question options answer_idx facts"), mediq_case, ("id", "answer", "context", "patient")
    ),
    "medqa": Format(_sets("question options answer_idx"), medqa_case, ("id", "answer", "meta_info")),
    "pubmedqa": Format(
        _sets("QUESTION CONTEXTS final_decision", "question context final_decision"),
        pubmedqa_case,
        ("id", "LABELS", "LONG_ANSWER", "long_answer"),
    ),
    "trl": Format(_sets(*(f"prompt {answer}" for answer in TRL_ANSWERS)), trl_case, COLUMNS),
    "own": Format(
        _sets("question answer", "messages answer", "question options answer_letter"), own_case, COLUMNS
    ),
}


def recognise(rows: Sequence[Row], wanted: str, mapping: Mapping[str, str], source: str) -> str:
    """The format's name: the one wanted, or by the first row's columns for "auto".

    Raises CaseError where none fits.
    """
    if wanted != "auto":
        return wanted
    _check_mapping(mapping, wanted)
    columns = set(mapped(rows[0], mapping).values)
    if "metaData" in columns and columns & {"phenotypicFeatures", "diseases", "interpretations"}:
        return PHENOPACKETS
    for name, form in FORMATS.items():
        if any(needed <= columns for needed in form.columns):
            return name
    # Not recognised: most likely our own format with one column missing or misspelt.
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
    """The row with its columns under our names. Raises CaseError where one of them is not there."""
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
    """Every row as a case. Raises CaseError with the place of the first row that is none."""
    _check_mapping(mapping, name)
    build = FORMATS[name].case
    rows = list(rows)
    if name == "medmcqa" and any(row.values.get(mapping.get("cop", "cop")) in (0, "0") for row in rows):
        build = _counting_from_zero
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


def _counting_from_zero(fields: Fields) -> Case:
    """The Hub's copy of MedMCQA counts `cop` from 0."""
    return medmcqa_case(fields, 0)


def _check_mapping(mapping: Mapping[str, str], name: str) -> None:
    """name: a format; "auto" for any."""
    forms = FORMATS.values() if name == "auto" else [FORMATS[name]]
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
