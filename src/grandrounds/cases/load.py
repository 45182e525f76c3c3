"""Loads the cases of any source."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from grandrounds.cases.bad_rows import settle
from grandrounds.cases.brief import with_brief_demonstrations
from grandrounds.cases.formats import build_cases, formats, in_lower_case, recognise
from grandrounds.cases.halves import without_halves
from grandrounds.cases.labels import as_labels, labels_in
from grandrounds.cases.memory import cases_of, fingerprint
from grandrounds.cases.mix import joined
from grandrounds.cases.read import Row, read_rows
from grandrounds.cases.split import is_test, is_validation
from grandrounds.domain import every
from grandrounds.errors import CaseError
from grandrounds.recipe import MEMORY, CasesRecipe
from grandrounds.types import Case, CaseBook

_SEEN_GROUP = "its group is in the training cases"
BAD_ROW = "bad row"


def load_cases(
    recipe: CasesRecipe, *, seed: int, fitted: Mapping[str, Any] | None = None, given: Any = None
) -> CaseBook:
    """Read, check and split the recipe's source; shorten its demonstrations where `cases.demonstrations` says so.

    source: a file, a Hub dataset, a domain's source, or `SOURCE:NAME`, which makes that held-out set the test split.
    fitted: `CaseBook.fitted` of an earlier book; this source's cases are then built as that book's were.
    given: a book, cases or rows in memory, which replace the source.
    Raises CaseError with the place of what cannot be read, and where a filter leaves no cases.
    """
    book = given if isinstance(given, CaseBook) else _loaded(recipe, seed, fitted, given)
    book = _with_validation(book, recipe, seed)
    if recipe.demonstrations == "full":
        return book
    return replace(book, train=with_brief_demonstrations(book.train))


def _with_validation(book: CaseBook, recipe: CasesRecipe, seed: int) -> CaseBook:
    """The book with a part of its training groups set aside, unless it has validation cases already."""
    if book.validation or not recipe.validation_fraction:
        return book
    aside = [is_validation(seed, split_key(case), recipe.validation_fraction) for case in book.train]
    return replace(
        book,
        train=[case for case, out in zip(book.train, aside, strict=True) if not out],
        validation=[case for case, out in zip(book.train, aside, strict=True) if out],
    )


def _loaded(recipe: CasesRecipe, seed: int, fitted: Mapping[str, Any] | None, given: Any) -> CaseBook:
    if given is not None:
        cases, left_out = cases_of(given, recipe)
        state = {"format": MEMORY, "seed": seed, "sha256": fingerprint(cases)}
        return _split(as_labels(cases, ()), recipe, seed, state, left_out)
    if recipe.source == MEMORY:
        raise CaseError(
            "these cases were Python objects, which are not saved with the run",
            where="cases.source",
            hint="Pass them again: resume(folder, cases=...), evaluate(folder, cases).",
        )
    if recipe.mix:
        alone = recipe.model_copy(update={"mix": {}, "demonstrations": "full", "validation_fraction": 0.0})
        further: dict[str, Any] = {"test_source": None, "columns": {}, "format": "auto"}
        books = {recipe.source: load_cases(alone, seed=seed, fitted=fitted)}
        for source in recipe.mix:
            books[source] = load_cases(alone.model_copy(update={**further, "source": source}), seed=seed)
        return joined(recipe, books)
    name, _, held_out = recipe.source.partition(":")
    if made := every("sources").get(name):
        own = fitted if fitted is not None and fitted.get("format") == name else None
        return _asked_for(made.book(recipe, seed, own), recipe.source, held_out)
    rows = read_rows(recipe.source, recipe.limit, recipe.encoding)
    # Another fraction than the default asks for a split of its own.
    usual = recipe.test_fraction == CasesRecipe.model_fields["test_fraction"].default
    if rows.test_source and fitted is None and recipe.test_source is None and usual:
        rows.notes.append(
            f"The data set's own split is held out: {rows.test_source}. Another by cases.test_source."
        )
        recipe = recipe.model_copy(update={"test_source": rows.test_source})
    if recipe.format == "auto" and not recipe.columns and (columns := in_lower_case(rows)):
        named = ", ".join(f"`{theirs}` as {ours}" for ours, theirs in columns.items())
        rows.notes.append(f"Columns are read whatever their capitals: {named}.")
        recipe = recipe.model_copy(update={"columns": columns})
    book = _read(rows, recipe, seed, fitted)
    return replace(book, notes=[*rows.notes, *book.notes])


def _read(rows: Sequence[Row], recipe: CasesRecipe, seed: int, fitted: Mapping[str, Any] | None) -> CaseBook:
    """The rows' cases, split."""
    name = recognise(rows, recipe.format, recipe.columns, recipe.source)
    form = formats()[name]
    if fitted is not None and (form.book or built_whole(fitted)) and fitted.get("format") != name:
        fitted = None  # what was fitted on one kind of source does not apply to another kind
    if form.book:
        _refuse_columns(recipe, name)
        rows, left_out = _readable(rows, recipe, recipe.source)
        book = form.book(rows, recipe, seed, fitted)
        book = replace(book, **_left_out(book, left_out))
        if not recipe.test_source or fitted is not None:
            return book
        if form.tested_on is None:
            raise CaseError(
                f"{name} cannot be tested on another file",
                where="cases.test_source",
                hint="Leave it out: cases.test_fraction of the cases are held out.",
            )
        tested, _ = _readable(
            read_rows(recipe.test_source, recipe.limit, recipe.encoding), recipe, recipe.test_source
        )
        return form.tested_on(book, tested, recipe.test_source)
    seed = fitted["seed"] if fitted else seed
    cases, left_out = _built(rows, name, recipe, recipe.source)
    told = any("kind" in row.values for row in rows)
    labels = fitted.get("labels", []) if fitted else [] if told else labels_in(cases)
    cases = as_labels(cases, labels)
    state = {"format": name, "seed": seed, **({"labels": labels} if labels else {})}
    if recipe.test_source and fitted is None:
        book = _with_test_source(recipe, cases, state, left_out)
        book = replace(book, test=as_labels(book.test, labels))
    else:
        book = _split(cases, recipe, seed, state, left_out)
    found = (
        [f"The gold answers are {len(labels)} labels: {'; '.join(labels)}."] if labels and not fitted else []
    )
    return replace(book, notes=[*book.notes, *found])


def _built(rows: Sequence[Row], name: str, recipe: CasesRecipe, source: str) -> tuple[list[Case], list[str]]:
    """The rows' cases, and a line for each row that was left out."""
    cases, errors = build_cases(rows, name, recipe.columns)
    return cases, settle(errors, len(rows), source, recipe.bad_rows)


def _readable(rows: Sequence[Row], recipe: CasesRecipe, source: str) -> tuple[list[Row], list[str]]:
    """The rows that can be read, and a line for each of the others."""
    checked = list(map(without_halves, rows))
    errors = [row.error for row in checked if row.error is not None]
    left_out = settle(errors, len(rows), source, recipe.bad_rows)
    return [row for row in checked if row.error is None], left_out


def _split(
    cases: Sequence[Case], recipe: CasesRecipe, seed: int, state: Mapping[str, Any], left_out: Sequence[str]
) -> CaseBook:
    held = [is_test(seed, split_key(case), recipe.test_fraction) for case in cases]
    book = CaseBook(
        train=[case for case, out in zip(cases, held, strict=True) if not out],
        test=[case for case, out in zip(cases, held, strict=True) if out],
        fitted=state,
        read=len(cases),
    )
    return replace(book, **_left_out(book, left_out))


def _left_out(book: CaseBook, lines: Sequence[str]) -> dict[str, Any]:
    """The fields of a book from which bad rows were left out."""
    if not lines:
        return {}
    dropped = {**book.dropped, BAD_ROW: len(lines)}
    return {"read": book.read + len(lines), "dropped": dropped, "left_out": [*book.left_out, *lines]}


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


def _with_test_source(
    recipe: CasesRecipe, train: Sequence[Case], state: Mapping[str, Any], left_out: Sequence[str]
) -> CaseBook:
    """All cases of `source` for training; those of `test_source` for testing, but for groups trained on."""
    source = recipe.test_source or ""
    rows = read_rows(source, recipe.limit, recipe.encoding)
    name = recognise(rows, recipe.format, recipe.columns, source)
    if formats()[name].book:
        raise CaseError(
            f"{name} cannot test what other cases trained",
            where=source,
            hint="Give cases.test_source in the format of cases.source.",
        )
    cases, further = _built(rows, name, recipe, source)
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
    book = CaseBook(train=train, test=test, fitted=state, read=len(train) + len(cases), dropped=dropped)
    return replace(book, notes=rows.notes, **_left_out(book, [*left_out, *further]))


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
