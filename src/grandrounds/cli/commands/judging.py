"""Commands that say how good a policy is. Other modules do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.cli.options import (
    Against,
    Faithfulness,
    JsonFile,
    Limit,
    LogsOnly,
    Overrides,
    ReportCases,
    ReportFile,
    ReportLimit,
    ReportSamples,
    Samples,
    Source,
    Split,
    Trials,
)

PANEL = "Judge"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def evaluate(
    policy: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model's folder, a GGUF file or a Hub name.")
    ],
    cases: Source = None,
    samples: Samples = None,
    split: Split = "auto",
    limit: Limit = None,
    overrides: Overrides = [],  # noqa: B006
    faithfulness: Faithfulness = False,
    json_file: JsonFile = None,
) -> None:
    """Evaluate one policy: accuracy with its interval, form, reasoning, behaviours, subgroups."""
    from grandrounds.cli.evaluate import show_evaluation

    show_evaluation(policy, cases, samples, split, limit, overrides, faithfulness, json_file)


@app.command(rich_help_panel=PANEL)
def compare(
    policies: Annotated[
        list[str], typer.Argument(help="Two or more policies; NAME=POLICY gives one a name.")
    ],
    cases: Source = None,
    samples: Samples = None,
    split: Split = "auto",
    limit: Limit = None,
    overrides: Overrides = [],  # noqa: B006
    faithfulness: Faithfulness = False,
    json_file: JsonFile = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the comparison.")] = None,
) -> None:
    """Evaluate several policies on the same cases, with paired tests and responses side by side."""
    from grandrounds.cli.evaluate import show_comparison

    show_comparison(policies, cases, samples, split, limit, overrides, faithfulness, json_file, html)


@app.command(rich_help_panel=PANEL)
def report(
    run: Annotated[str, typer.Argument(help="A run's folder; NAME=FOLDER gives it a name.")],
    compare: Against = [],  # noqa: B006
    cases: ReportCases = None,
    limit: ReportLimit = 300,
    trials: Trials = 50,
    samples: ReportSamples = 8,
    logs_only: LogsOnly = False,
    overrides: Overrides = [],  # noqa: B006
    out: ReportFile = None,
) -> None:
    """Write a report on a run as one HTML file: provenance, curves, results, calibration, audit, limits, sign-off."""
    from grandrounds.cli.report import write_report

    if logs_only and (compare or cases):
        raise typer.BadParameter(
            "it evaluates nothing: leave out --compare and --cases", param_hint="--logs-only"
        )
    write_report(run, compare, cases, limit, trials, samples, logs_only, overrides, out)


@app.command(rich_help_panel=PANEL)
def audit(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many cases.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Show cases whose gold answers may be wrong: all completions of a group agree on another answer."""
    from grandrounds.cli.audit import audit_labels

    audit_labels(run, limit, as_json)
