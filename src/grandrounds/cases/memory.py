"""Cases that the caller has in memory: as `Case`, or as rows in any format that files may have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from grandrounds.cases.bad_rows import settle
from grandrounds.cases.formats import build_cases, recognise
from grandrounds.cases.halves import refuse_halves
from grandrounds.cases.read import Row
from grandrounds.errors import CaseError
from grandrounds.recipe import MEMORY, CasesRecipe
from grandrounds.types import Case


def cases_of(given: Any, recipe: CasesRecipe) -> tuple[list[Case], list[str]]:
    """Cases of cases or of rows as mappings, and a line for each row that was left out. CaseError for anything else."""
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        raise _refusal(given)
    items = list(given)[: recipe.limit]
    if not items:
        raise CaseError("there are no cases", where=MEMORY, hint="Pass at least one.")
    if all(isinstance(item, Case) for item in items):
        for number, case in enumerate(items, start=1):
            refuse_halves(case, f"{MEMORY}, case {number}")
        return items, []
    for item in items:
        if not isinstance(item, Mapping):
            raise _refusal(item)
    rows = [Row(dict(item), f"{MEMORY}, row {number}") for number, item in enumerate(items, start=1)]
    name = recognise(rows, recipe.format, recipe.columns, MEMORY)
    cases, errors = build_cases(rows, name, recipe.columns)
    return cases, settle(errors, len(rows), MEMORY, recipe.bad_rows)


def _refusal(given: Any) -> CaseError:
    return CaseError(
        f"{type(given).__name__} is neither cases nor rows",
        where=MEMORY,
        hint="Pass a list of Case, a list of dicts, or a data set whose rows are dicts.",
    )


def fingerprint(cases: Iterable[Case]) -> str:
    """SHA-256 of the whole content of the cases, to recognise them later."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(repr(case).encode())
    return digest.hexdigest()


def content_hash(cases: Iterable[Case]) -> str:
    """SHA-256 of what the cases ask and of their gold answers, in order; the same in every version.

    A line of JSON for each case: [id, question or [[role, content], …], context, [[letter, option], …], kind of gold
    answer, gold answer, group], and {option: note} after them where options have notes.
    """
    digest = hashlib.sha256()
    for case in cases:
        question = case.question
        asked = question if isinstance(question, str) else [[one.role, one.content] for one in question]
        options = [list(option) for option in case.options.items()]
        notes = [dict(case.option_notes)] if case.option_notes else []
        row = [
            case.id,
            asked,
            list(case.context),
            options,
            case.gold.kind,
            case.gold.text,
            case.group,
            *notes,
        ]
        digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
