"""The page of a comparison: one self-contained HTML file that fetches nothing.

The template engine escapes all text that a model wrote. A content security policy allows only the page's own script, by
its hash: a hostile response could not run even if escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import RunError
from grandrounds.evaluation.compare import OUTCOMES, Comparison, Example
from grandrounds.evaluation.result import SMALL, CaseResult, Evaluation, Subgroup
from grandrounds.evaluation.statistics import Share
from grandrounds.evaluation.subgroups import gold_letter
from grandrounds.report import words
from grandrounds.report.curves import curves
from grandrounds.report.layout import ReasoningLayout, layout_of
from grandrounds.report.tables import shown_tags
from grandrounds.report.visible import finalised, shown_answer, shown_case
from grandrounds.shares import percent, percents, points

if TYPE_CHECKING:
    from jinja2 import Environment

# Cases shown for each outcome.
EXAMPLES_EACH = 4
# Numbers of the style sheet's colours. The first policy is grey, the last one green, those between have other colours.
_FIRST, _LAST, _BETWEEN = 0, 2, (1, 3, 4, 5)


def write_page(path: Path, comparison: Comparison, **options: Any) -> None:
    """Write `comparison_page(comparison, **options)`. RunError where the file cannot be written."""
    write_text(path, comparison_page(comparison, **options), "Choose another --html file.")


def write_text(path: Path, page: str, hint: str) -> None:
    """Write a page, and the folder it is in. RunError with this hint where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"the page cannot be written: {error.strerror}",
            where=str(path),
            hint=hint,
        ) from error


def comparison_page(
    comparison: Comparison,
    *,
    title: str = "Does it reason better?",
    cases: str = "held-out cases",
    notice: str = "",
    metrics: Sequence[Mapping[str, Any]] = (),
    further: Mapping[str, Comparison] | None = None,
    about: Mapping[str, str] | None = None,
) -> str:
    """The whole page as HTML.

    cases: a short description of the cases. notice: shown on top, for example that this is a teaching world.
    metrics: rows of the last policy's `metrics.jsonl`. further: name of other cases -> the same policies on them.
    about: further facts for the reader (model, seed, command), in order.
    """
    names = comparison.names
    script, style = resource("page.js"), resource("page.css")
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            cases=cases,
            notice=notice,
            names=names,
            first=names[0],
            last=names[-1],
            count=comparison.count,
            samples=comparison.evaluations[names[0]].samples,
            colours=colours_of(names),
            rows=score_rows(comparison),
            headline=comparison.headline,
            pairs=comparison.pairs,
            baselines=words.baselines(comparison),
            warning=words.trained_on(comparison.evaluations[names[0]]),
            outcomes=_outcomes(comparison),
            measures=measures_of(comparison),
            further=[
                RowGroup(name, other.count, other.count < SMALL, tuple(score_rows(other)))
                for name, other in (further or {}).items()
            ],
            grouped=any(case.group for case in comparison.evaluations[names[0]].cases),
            subgroups=_subgroups(comparison),
            curves=curves(metrics),
            examples=[shown_example(comparison, example) for example in comparison.examples(EXAMPLES_EACH)],
            each=EXAMPLES_EACH,
            skipped=comparison.evaluations[names[0]].skipped,
            about=about or {},
            style=style,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


@dataclass(frozen=True)
class TableRow:
    """A policy's accuracy and interval, for one line of a chart."""

    name: str
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class RowGroup:
    """A set of cases, and each policy's accuracy on it."""

    name: str
    count: int
    small: bool
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Side:
    """One policy's response to a case that is shown."""

    name: str
    correct: bool
    answer: str | None
    text: str
    length: int
    reasoned: bool
    layout: ReasoningLayout


def colours_of(names: Sequence[str]) -> dict[str, int]:
    """Policy -> the number of its colour in the style sheet."""
    between = {name: _BETWEEN[place % len(_BETWEEN)] for place, name in enumerate(names[1:-1])}
    return {names[-1]: _LAST, names[0]: _FIRST, **between}


def score_rows(comparison: Comparison) -> list[TableRow]:
    """Each policy's accuracy and interval."""
    return [
        TableRow(name, evaluation.accuracy.value, evaluation.accuracy.interval)
        for name, evaluation in comparison.evaluations.items()
    ]


def _outcomes(comparison: Comparison) -> list[dict[str, Any]]:
    """The parts of the outcome bar: both right and both wrong at the ends, the differing cases in the middle."""
    first, last = comparison.names[0], comparison.names[-1]
    return [
        {
            "key": key,
            "label": words.outcome(key, first, last),
            "count": comparison.outcomes[key],
            "share": comparison.outcomes[key] / comparison.count,
        }
        for key in ("both_right", "gained", "lost", "both_wrong")
    ]


def measures_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Rows of the table of form and reasoning: None where a measure does not apply, no row where it never does."""
    evaluations = list(comparison.evaluations.values())
    k = evaluations[0].samples
    rows: list[tuple[str, str, list[str | None]]] = [
        ("Answers the question", "an answer stands in its tags", [_cell(e.answered) for e in evaluations]),
        ("Keeps the form", "one reasoning, one answer, nothing else", _of_reasoners(evaluations, "format")),
        (
            "Answers as it concludes",
            "of responses with a reasoning",
            _of_reasoners(evaluations, "consistency"),
        ),
        ("Cites the case", "findings cited, less those invented", _of_reasoners(evaluations, "evidence")),
        (
            "Reasons validly when right",
            "every claim checked by program",
            _of_reasoners(evaluations, "validity_given_correct"),
        ),
        *(
            (label, hint, [_cell(e.behaviours.get(name)) for e in evaluations])
            for name, (label, hint) in words.BEHAVIOURS.items()
        ),
        *(
            (
                label,
                hint,
                [_cell(e.faithfulness.moved(*trial)) if e.faithfulness else None for e in evaluations],
            )
            for trial, (label, hint) in words.FAITHFULNESS.items()
        ),
        ("Majority vote", f"of {k} answers", [_value(e.maj_at_k.get(k)) for e in evaluations]),
        ("At least one right", f"of {k} answers", [_value(e.pass_at_k.get(k)) for e in evaluations]),
        ("Length", "tokens, mean; 95 % are shorter than", [_length(e) for e in evaluations]),
        ("Cut off", "at the longest allowed length", [_value(e.lengths.cut_off) for e in evaluations]),
    ]
    return [
        {"label": label, "hint": hint, "cells": cells}
        for label, hint, cells in rows
        if any(cell is not None for cell in cells)
    ]


def _of_reasoners(evaluations: list[Evaluation], name: str) -> list[str | None]:
    return [_cell(getattr(e, name)) if e.reasoned.value > 0 else None for e in evaluations]


def _cell(share: Share | None) -> str | None:
    return None if share is None else percent(share.value)


def _value(value: float | None) -> str | None:
    return None if value is None else percent(value)


def _length(evaluation: Evaluation) -> str:
    return f"{evaluation.lengths.mean:,.0f}; {evaluation.lengths.p95:,.0f}"


def _subgroups(comparison: Comparison) -> dict[str, list[RowGroup]]:
    """tag -> for each of its values, a row per policy."""
    first = next(iter(comparison.evaluations.values()))
    return {
        tag: [_subgroup(comparison, group) for group in first.subgroups if group.tag == tag]
        for tag in shown_tags(first)
    }


def _subgroup(comparison: Comparison, wanted: Subgroup) -> RowGroup:
    rows = [
        TableRow(name, group.accuracy, group.interval)
        for name, evaluation in comparison.evaluations.items()
        for group in evaluation.subgroups
        if (group.tag, group.value) == (wanted.tag, wanted.value)
    ]
    return RowGroup(wanted.value, wanted.count, wanted.small, tuple(rows))


def shown_example(comparison: Comparison, example: Example) -> dict[str, Any]:
    """A case with the responses of the first and the last policy."""
    first, last = comparison.names[0], comparison.names[-1]
    results = comparison.results(example.id)
    chosen = {name: results[name] for name in dict.fromkeys((first, last))}
    return example_card(example.outcome, words.outcome(example.outcome, first, last), chosen)


def example_card(outcome: str, label: str, results: Mapping[str, CaseResult]) -> dict[str, Any]:
    """A case with the first responses of these policies, long texts cut."""
    case = next(iter(results.values()))
    sides = []
    for name, result in results.items():
        answered = shown_answer(result.first)
        sides.append(
            Side(
                name=name,
                correct=answered.correct,
                answer=answered.answer,
                text=answered.text,
                length=answered.length,
                reasoned=bool(answered.reasoning),
                layout=layout_of(answered),
            )
        )
    shown = shown_case(case)
    return {
        "outcome": outcome,
        "label": label,
        "case": shown,
        "gold_letter": gold_letter(case),
        "sides": sides,
    }


@cache
def resource(name: str) -> str:
    """The text of a file beside the templates."""
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def templates() -> Environment:
    """The template engine: it escapes what it inserts, and makes it visible."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        finalize=finalised,
        loader=PackageLoader("grandrounds.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        percents=percents,
        points=points,
        shortcut=words.shortcut,
        listed=words.listed,
        tight=words.tight,
        p_value=words.p_value,
    )
    environment.globals.update(
        split=words.split,
        verdict=words.verdict,
        gain=words.gain,
        count_cases=words.cases,
        outcomes_in_order=OUTCOMES,
    )
    return environment
