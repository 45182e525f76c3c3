"""The command `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grandrounds.cli.evaluate import writable
from grandrounds.cli.train import quiet_libraries


def write_report(
    run: str,
    compare: Sequence[str],
    cases: str | None,
    limit: int,
    trials: int,
    samples: int,
    logs_only: bool,
    overrides: Sequence[str],
    out: Path | None,
) -> None:
    """Write a run's report, and say where it is."""
    quiet_libraries()
    from rich.console import Console

    from grandrounds.cli.progress import counted
    from grandrounds.reporting import place_of_report, report_run

    _, folder, page = place_of_report(run, out)
    writable(page if folder.is_dir() else None)
    with counted("Evaluating for the report") as progress:
        page = report_run(
            run,
            out,
            compare=compare,
            cases=cases,
            limit=limit,
            trials=trials,
            samples=samples,
            logs_only=logs_only,
            overrides=overrides,
            progress=progress,
        )
    Console(highlight=False).print(f"Report: {page}", soft_wrap=True, markup=False)
