"""The report as one HTML file: no script, no request, every text of a model escaped and made visible."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.evaluation.compare import Comparison
from grandrounds.evaluation.trials import CHANGES, DISTURBANCES, Disturbance, Kind
from grandrounds.report.curves import all_curves
from grandrounds.report.page import colours_of, measures_of, resource, score_rows, templates, write_text
from grandrounds.report.run import confidence, provenance
from grandrounds.report.run.audit import payments, suspects_of
from grandrounds.report.run.checklist import checklist
from grandrounds.report.run.facts import RunFacts
from grandrounds.report.run.limits import limits_of
from grandrounds.report.run.results import grouped, paired_tests
from grandrounds.report.run.shown import EACH, MOST_REGRESSIONS, drawn_cards, regression_cards, regressions
from grandrounds.report.visible import short
from grandrounds.training.monitor.told import told

MOST_SUSPECTS = 10
CHANGED_OPTIONS: Mapping[Disturbance, tuple[str, str]] = {
    "shuffled": ("Options in another order", "The right one under another letter; a robust answer stays"),
    "none_added": ("“None of the above” added", "It is wrong; a robust answer stays"),
    "none_instead": (
        "Right option taken out, “None of the above” added",
        "Now it is the right one",
    ),
}
CHANGED_CASES: Mapping[Kind, tuple[str, str]] = {
    "decisive": (
        "The decisive finding removed",
        "to which the reasoning gives most points for its conclusion; only where it gives points",
    ),
    "removed": ("One cited finding removed", "drawn by lot from those that the reasoning cites"),
    "uncited": ("One other finding removed", "the control: one that the reasoning does not cite"),
    "corrupted": ("A cited finding replaced", "by one of another case"),
}


def write_run_report(path: Path, facts: RunFacts) -> None:
    """Write the report. RunError where the file cannot be written."""
    write_text(path, run_report(facts), "Choose another --out file.")


def run_report(facts: RunFacts) -> str:
    """The whole report as HTML."""
    comparison = facts.measured.comparison
    style = resource("page.css") + resource("run.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    names = comparison.names if comparison else (facts.name,)
    return (
        templates()
        .get_template("run/page.html.j2")
        .render(
            facts=facts,
            logs=facts.logs,
            measured=facts.measured,
            names=names,
            colours=colours_of(names),
            style=style,
            style_hash=digest,
            limits=limits_of(facts),
            provenance={
                "The run": provenance.run_rows(facts),
                "Cases and split": provenance.case_rows(facts),
                "Model": provenance.model_rows(facts.logs),
                "Versions and machine": provenance.machine_rows(facts),
            },
            curves=all_curves(_with_start(facts)),
            results=_results(comparison) if comparison else None,
            trials=_trials(facts),
            audit=_audit(facts),
            checklist=checklist(facts),
        )
    )


def _with_start(facts: RunFacts) -> list[Mapping[str, Any]]:
    """The rounds' metrics after the evaluation before the first round, which has no row among them."""
    start = [
        {"round": 0, "held_out/accuracy": row["accuracy"]}
        for row in facts.logs.evaluations
        if row.get("round") == 0
    ]
    return [*start, *facts.logs.metrics]


def _results(comparison: Comparison) -> dict[str, Any]:
    worst = regressions(comparison)
    return {
        "rows": score_rows(comparison),
        "tests": paired_tests(comparison),
        "measures": measures_of(comparison),
        "baselines": list(
            zip(comparison.evaluations[comparison.names[-1]].baselines, comparison.baselines, strict=True)
        ),
        "groups": grouped(comparison),
        "regressions": worst,
        "regression_cards": regression_cards(comparison, worst),
        "most": MOST_REGRESSIONS,
        "drawn": drawn_cards(comparison, worst),
        "each": EACH,
        "samples": comparison.evaluations[comparison.names[0]].samples,
    }


def _trials(facts: RunFacts) -> dict[str, Any] | None:
    tried = facts.measured.tried
    if tried is None:
        return None
    first = next(iter(tried.evaluations.values()))
    return {
        "count": tried.count,
        "samples": first.samples,
        "drawn": confidence.drawn(tried),
        "across": confidence.across,
        "up": confidence.up,
        "ticks": confidence.SHARES,
        "options": [_options_row(tried, kind) for kind in DISTURBANCES],
        "cases": [_cases_row(tried, kind) for kind in CHANGES],
    }


def _options_row(tried: Comparison, kind: Disturbance) -> dict[str, Any]:
    """Accuracy before and after a change of options, and how many answers moved, for each policy."""
    cells = []
    for name, evaluation in tried.evaluations.items():
        robust = evaluation.robustness
        shares = {
            field: robust.share(kind, field) if robust else None
            for field in ("right_before", "right_after", "moved", "chose_none")
        }
        cells.append({"name": name, **shares})
    label, hint = CHANGED_OPTIONS[kind]
    return {"kind": kind, "label": label, "hint": hint, "cells": cells}


def _cases_row(tried: Comparison, kind: Kind) -> dict[str, Any]:
    """How many answers moved when a finding was changed, for each policy."""
    cells = [
        {"name": name, "moved": evaluation.faithfulness.moved(kind) if evaluation.faithfulness else None}
        for name, evaluation in tried.evaluations.items()
    ]
    label, hint = CHANGED_CASES[kind]
    return {"label": label, "hint": hint, "cells": cells}


def _audit(facts: RunFacts) -> dict[str, Any]:
    logs = facts.logs
    found = suspects_of(logs)
    shown: Sequence[Any] = (found or [])[:MOST_SUSPECTS]
    return {
        "warnings": told(logs.monitor, logs.rolled_back),
        "watched": len(logs.monitor),
        "payments": payments(logs),
        "suspects": found,
        "shown": [(one, short(one.gold), short(one.answer)) for one in shown],
    }
