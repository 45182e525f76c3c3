"""Loads the cases of any source."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from grandrounds.cases.formats import build_cases, formats, recognise
from grandrounds.cases.memory import cases_of, fingerprint
from grandrounds.cases.read import read_rows
from grandrounds.cases.split import is_test
from grandrounds.domain import every
from grandrounds.errors import CaseError
from grandrounds.recipe import MEMORY, CasesRecipe
from grandrounds.types import Case, CaseBook

_SEEN_GROUP = "its group is in the training cases"


def load_cases(
    recipe: CasesRecipe, *, seed: int, fitted: Mapping[str, Any] | None = None, given: Any = None
) -> CaseBook:
    """Read, check and split the recipe's source.

    source: a file, a Hub dataset, a domain's source, or `SOURCE:NAME`, which makes that held-out set the test split.
    fitted: `CaseBook.fitted` of an earlier book; this source's cases are then built as that book's were.
    given: a book, cases or rows in memory, which replace the source.
    Raises CaseError with the place of what cannot be read, and where a filter leaves no cases.
    """
    if isinstance(given, CaseBook):
        return given
    if given is not None:
        cases = cases_of(given, recipe)
        return _split(cases, recipe, seed, {"format": MEMORY, "seed": seed, "sha256": fingerprint(cases)})
    if recipe.source == MEMORY:
        raise CaseError(
            "these cases were passed as objects, and are not here",
            where="cases.source",
            hint="Pass them again: resume(folder, cases=...), evaluate(folder, cases).",
        )
    name, _, held_out = recipe.source.partition(":")
    if made := every("sources").get(name):
        own = fitted if fitted is not None and fitted.get("format") == name else None
        return _asked_for(made.book(recipe, seed, own), recipe.source, held_out)
    rows = read_rows(recipe.source, recipe.limit)
    name = recognise(rows, recipe.format, recipe.columns, recipe.source)
    form = formats()[name]
    if fitted is not None and (form.book or built_whole(fitted)) and fitted.get("format") != name:
        fitted = None  # what was fitted on one kind of source does not apply to another kind
    if form.book:
        _refuse_columns(recipe, name)
        book = form.book(rows, recipe, seed, fitted)
        if not recipe.test_source or fitted is not None:
            return book
        if form.tested_on is None:
            raise CaseError(
                f"{name} cannot be tested on another file",
                where="cases.test_source",
                hint="Leave it out: cases.test_fraction of the cases are held out.",
            )
        return form.tested_on(book, read_rows(recipe.test_source, recipe.limit), recipe.test_source)
    seed = fitted["seed"] if fitted else seed
    cases = build_cases(rows, name, recipe.columns)
    state = {"format": name, "seed": seed}
    if recipe.test_source and fitted is None:
        return _with_test_source(recipe, cases, state)
    return _split(cases, recipe, seed, state)


def _split(cases: Sequence[Case], recipe: CasesRecipe, seed: int, state: Mapping[str, Any]) -> CaseBook:
    held = [is_test(seed, split_key(case), recipe.test_fraction) for case in cases]
    return CaseBook(
        train=[case for case, out in zip(cases, held, strict=True) if not out],
        test=[case for case, out in zip(cases, held, strict=True) if out],
        fitted=state,
        read=len(cases),
    )


def built_whole(fitted: Mapping[str, Any]) -> bool:
    """Whether a domain's format or source built and split a book's cases together."""
    form = formats().get(fitted.get("format", ""))
    return fitted.get("format") in every("sources") or (form is not None and form.book is not None)


def _refuse_columns(recipe: CasesRecipe, name: str) -> None:
    if recipe.columns:
        raise CaseError(
            f"{name} have a fixed schema; no columns are mapped in them",
            where=f"cases.columns.{next(iter(recipe.columns))}",
            hint="Leave cases.columns out, or name the format that the columns belong to.",
        )


def split_key(case: Case) -> str:
    """The key that decides a case's split: its group, or its question, so that copies of a case stay together.

    Only letters and digits count: published copies differ in a colon, a hyphen or a space.
    """
    if case.group is not None:
        return case.group
    question = case.question
    asked = question if isinstance(question, str) else "\n".join(message.content for message in question)
    text = "\n".join((*case.context, asked))
    return "".join(filter(str.isalnum, text.lower())) or text


def _with_test_source(recipe: CasesRecipe, train: Sequence[Case], state: Mapping[str, Any]) -> CaseBook:
    """All cases of `source` for training, and those of `test_source` for testing, except groups that are trained on."""
    source = recipe.test_source or ""
    rows = read_rows(source, recipe.limit)
    name = recognise(rows, recipe.format, recipe.columns, source)
    if formats()[name].book:
        raise CaseError(
            f"{name} cannot test what other cases trained",
            where=source,
            hint="Give cases.test_source in the format of cases.source.",
        )
    cases = build_cases(rows, name, recipe.columns)
    groups = {case.group for case in train if case.group is not None}
    test = [case for case in cases if case.group not in groups]
    if not test:
        raise CaseError(
            f"no test cases are left: the groups of all {len(cases)} are in the training cases",
            where=source,
            hint="Give cases.test_source of other groups.",
        )
    if {case.id for case in train} & {case.id for case in test}:  # where ids are row numbers
        test = [replace(case, id=f"test-{case.id}") for case in test]
    dropped = {_SEEN_GROUP: len(cases) - len(test)} if len(test) < len(cases) else {}
    return CaseBook(train=train, test=test, fitted=state, read=len(train) + len(cases), dropped=dropped)


def _asked_for(book: CaseBook, source: str, name: str) -> CaseBook:
    """The book with the held-out set `name` as its test split; unchanged if the name is empty."""
    if not name:
        return book
    sets = {"new vignettes": book.test, **book.held_out}
    found = next((known for known in sets if known == " ".join(name.lower().split())), None)
    if found is None:
        close = difflib.get_close_matches(name.lower(), list(sets), n=1)
        raise CaseError(
            f"the {source.partition(':')[0]} has no held-out set `{name}`",
            where=source,
            hint=f"Did you mean `{close[0]}`?" if close else f"It has {', '.join(sets)}.",
        )
    return replace(book, test=sets[found])
