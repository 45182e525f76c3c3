"""The formats of cases. Each is recognised by its columns."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grandrounds.cases.formats import general, reading
from grandrounds.cases.formats.fields import MISSING, Fields, missing_column, nested, refuse_images
from grandrounds.cases.formats.own import COLUMNS, TRL_ANSWERS, own_case, trl_case
from grandrounds.cases.halves import refuse_halves, without_halves
from grandrounds.cases.read import Row
from grandrounds.domain import Format, columns, every
from grandrounds.errors import CaseError, RecipeError
from grandrounds.types import Case


def _without_answer(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no row has its answer in a column of its own."""
    return not any(set(row) & {"answer", *TRL_ANSWERS} for row in rows)


# Of every field; a domain's more particular ones go before.
OWN: dict[str, Format] = {
    "mmlu": Format(columns("question choices answer"), general.mmlu_case, ("id", "subject")),
    "arc": Format(
        columns("question choices answerKey", "question_stem choices answerKey"), general.arc_case, ("id",)
    ),
    "boolq": Format(columns("question passage answer"), reading.boolq_case, ("id",)),
    "squad": Format(columns("question context answers"), reading.squad_case, ("id",)),
    "sciq": Format(
        columns("question correct_answer distractor1 distractor2 distractor3"),
        reading.sciq_case,
        ("id", "support"),
    ),
    "gpqa": Format(
        (frozenset(("Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)))),),
        reading.gpqa_case,
        ("id",),
    ),
    "alpaca": Format(
        columns("instruction output", "instruction response"),
        general.alpaca_case,
        ("id", "input", "context"),
    ),
    "sharegpt": Format(columns("conversations"), general.sharegpt_case, ("id",)),
    "completion": Format(columns("prompt completion"), general.completion_case, ("id",)),
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
    "messages": Format(columns("messages"), general.messages_case, ("id",), _without_answer),
    "prompt": Format(columns("prompt"), general.prompt_case, ("id",), _without_answer),
}
# Rows that are looked at to tell formats with the same columns apart.
SEEN = 20


def formats() -> dict[str, Format]:
    """All formats by name, in the order of recognition: more specific ones first."""
    return {**every("formats"), **OWN}


def recognise(rows: Sequence[Row], wanted: str, mapping: Mapping[str, str], source: str) -> str:
    """The format's name: `wanted`, or for "auto" the format that has the first row's columns.

    Raises CaseError where none fits, or no row can be read.
    """
    rows = [row for row in rows if row.error is None] or rows
    if rows[0].error is not None:
        raise rows[0].error
    if wanted != "auto":
        return wanted
    _check_mapping(mapping, wanted)
    rows = _mappable(rows, mapping)
    found = set(mapped(rows[0], mapping).values)
    if name := _fitting(rows, mapping):
        return name
    # Not recognised: most likely our own format, with a column missing or misspelt.
    place = rows[0].place
    for needed in ("question", "answer"):
        if needed not in found and found & {"question", "answer", "messages", "prompt", "options"}:
            if needed == "question" and found & {"messages", "prompt"}:
                continue
            raise missing_column(needed, rows[0].values, place)
    near = [
        name for name in rows[0].values if difflib.get_close_matches(name.lower(), ["question", "answer"])
    ]
    if near:
        raise missing_column("question", rows[0].values, place)
    raise CaseError(
        f"the format is not recognised by its columns {', '.join(sorted(found)[:20])}",
        where=place,
        hint="Map columns (--set cases.columns.question=… --set cases.columns.answer=…), or name the format "
        "(--set cases.format=…).",
    )


def _mappable(rows: Sequence[Row], mapping: Mapping[str, str]) -> Sequence[Row]:
    """The rows that have the mapped columns; all of them where none has. Others are bad rows, and named as such."""
    having = [
        row for row in rows if all(nested(row.values, theirs) is not MISSING for theirs in mapping.values())
    ]
    return having or rows


def _fitting(rows: Sequence[Row], mapping: Mapping[str, str]) -> str | None:
    """The first format that has the columns."""
    found = set(mapped(rows[0], mapping).values)
    seen = [mapped(row, mapping).values for row in rows[:SEEN]]
    for name, form in formats().items():
        if any(needed <= found for needed in form.columns) and (form.fits is None or form.fits(seen)):
            return name
    return None


def in_lower_case(rows: Sequence[Row]) -> dict[str, str]:
    """Our column names -> the rows' own, where only capitals keep a format from being recognised ("Question")."""
    rows = [row for row in rows if row.error is None]
    if not rows or _fitting(rows, {}):
        return {}
    known = _known_columns([form for form in formats().values() if form.case])
    names = Counter(name.strip().lower().replace(" ", "_") for name in rows[0].values)
    mapping = {
        lower: name
        for name in rows[0].values
        if (lower := name.strip().lower().replace(" ", "_")) in known and names[lower] == 1 and lower != name
    }
    return mapping if _fitting(rows, mapping) else {}


def mapped(row: Row, mapping: Mapping[str, str]) -> Row:
    """The row with its columns under our names; `reward_model.ground_truth` names a column within another.

    Raises CaseError where one of them is not there.
    """
    if not mapping:
        return row
    values = dict(row.values)
    for ours, theirs in mapping.items():
        found = nested(row.values, theirs)
        if found is MISSING:
            close = difflib.get_close_matches(theirs, list(row.values), n=1)
            raise CaseError(
                f"there is no column `{theirs}`, which cases.columns names for `{ours}`",
                where=row.place,
                hint=f"Did you mean `{close[0]}`?"
                if close
                else f"There are {', '.join(list(row.values)[:20])}.",
            )
        values[ours] = found
    for theirs in set(mapping.values()) - set(mapping):
        values.pop(theirs, None)  # a nested column stays in the one that holds it
    return Row(values, row.place)


def build_cases(
    rows: Iterable[Row], name: str, mapping: Mapping[str, str]
) -> tuple[list[Case], list[CaseError]]:
    """Every row as a case, and the error of each row that is none."""
    _check_mapping(mapping, name)
    rows, form = list(map(without_halves, rows)), formats()[name]
    readable = [row for row in rows if row.error is None]
    build = form.choose(readable, mapping) if form.choose else form.case
    assert build is not None, f"the format {name} builds a whole book"
    cases: list[Case] = []
    errors: list[CaseError] = []
    places: dict[str, str] = {}
    for position, row in enumerate(rows):
        try:
            if row.error is not None:
                raise row.error
            fields = Fields(mapped(row, mapping).values, row.place, position)
            refuse_images(fields)
            built = build(fields)
            for case in [built] if isinstance(built, Case) else built:
                refuse_halves(case, row.place)
                _require_new(case, places, row.place)
                cases.append(case)
        except CaseError as error:
            errors.append(error)
    return cases, errors


def _require_new(case: Case, places: dict[str, str], place: str) -> None:
    """CaseError for an id that another row has; else the place is noted."""
    if case.id in places:
        raise CaseError(
            f"the id `{case.id}` is used twice, first at {places[case.id]}",
            where=place,
            hint="Give each case an id of its own, or remove the column: ids are then row numbers.",
        )
    places[case.id] = place


def _check_mapping(mapping: Mapping[str, str], name: str) -> None:
    """RecipeError for a mapped column that the format does not have. name: a format, or "auto" for all."""
    forms = [form for form in formats().values() if form.case] if name == "auto" else [formats()[name]]
    known = _known_columns(forms)
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


def _known_columns(forms: Iterable[Format]) -> list[str]:
    """All columns that these formats read, in order."""
    forms = list(forms)
    needed = (column for form in forms for columns_of in form.columns for column in columns_of)
    return sorted({*needed, *(column for form in forms for column in form.known)})
