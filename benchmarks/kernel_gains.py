"""What each kernel gains: rounds with all of them, with all but one, and with none, by `policy.kernels`.

    python benchmarks/kernel_gains.py                           both workloads
    python benchmarks/kernel_gains.py smol16 --steps 5

A gain is how much more a round takes without the kernel than with all, in processor time: on a machine that others
use too, the clock would tell of them. Medians over rounds, for which the variants take turns. The result is
written to benchmarks/results/, one file for each set of vector instructions.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.alternate import tell
from bench.machine import describe_machine
from bench.program import job_for, known, options
from bench.record import RESULTS, instructions, record
from bench.side import Job, Side, SideFailed, run_side
from grandrounds.recipe import KernelsRecipe

SHORT = ("clinic", "smol32")
ON_A_GPU = {"cuda_graphs"}
SWITCHES = tuple(name for name in KernelsRecipe.model_fields if name not in ON_A_GPU)
ALL, NONE = "all kernels", "none"
Row = dict[str, Any]


def main() -> None:
    """Measure, print a table for each workload, and write everything as JSON."""
    parser = options(__doc__ or "")
    parser.set_defaults(repeats=1, threads=1)
    arguments = known(parser, SHORT)
    print(describe_machine())
    measured = {}
    for name in arguments.workloads:
        try:
            measured[name] = measure(job_for(name, arguments), arguments.repeats)
        except SideFailed as failure:
            sys.exit(str(failure))
        print(f"\n{table(cells(name, measured[name]))}\n", flush=True)
    file = arguments.json or RESULTS / f"kernels-{instructions()}.json"
    write(file, measured, arguments.threads)
    print(f"written to {file}")


def variants() -> dict[str, dict[str, bool]]:
    """Switches by the table's row."""
    return {
        ALL: {},
        **{f"without {name}": {name: False} for name in SWITCHES},
        NONE: dict.fromkeys(SWITCHES, False),
    }


def measure(job: Job, repeats: int) -> list[Row]:
    """A row for each variant: medians in seconds and bytes, and what it takes more than all kernels, as a share."""
    side = Side("kernels", "kernels_side", sys.executable)
    steps: dict[str, list[Row]] = {name: [] for name in variants()}
    for number in range(repeats):
        tell(f"{job.workload.name}: process {number + 1} of {repeats}")
        for name, ran in run_side(side, replace(job, settings=variants()))["steps"].items():
            steps[name] += ran
    keys = {"sampling": "sampling_cpu", "update": "update_cpu", "peak": "peak"}
    rows: list[Row] = [
        {
            "variant": name,
            **{what: median(one[key] for one in ran) for what, key in keys.items()},
            "steps": ran,
        }
        for name, ran in steps.items()
    ]
    for row in rows:
        row["gain"] = {what: row[what] / rows[0][what] - 1 for what in keys}
    return rows


COLUMNS = ("workload", "kernels", "sampling, s", "update, s", "peak, MB", "gain: sampling", "update", "peak")


def cells(name: str, rows: list[Row]) -> list[list[str]]:
    """The table of a workload, as text."""

    def gain(row: Row, what: str) -> str:
        return "" if row["variant"] == ALL else f"{row['gain'][what]:+.0%}"

    return [
        [
            name,
            row["variant"],
            f"{row['sampling']:.2f}",
            f"{row['update']:.2f}",
            f"{row['peak'] / 1e6:.0f}",
            *(gain(row, what) for what in ("sampling", "update", "peak")),
        ]
        for row in rows
    ]


def table(rows: list[list[str]]) -> str:
    """Cells under their columns."""
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (COLUMNS, *rows)
    )


def write(file: Path, measured: dict[str, list[Row]], threads: int) -> None:
    """The table, and every timed round."""
    note = f"Seconds of the processor's time, {threads} thread(s), medians. Gain: how much more without."
    rows = [row for name, rows in measured.items() for row in cells(name, rows)]
    record(file, COLUMNS, rows, note, measured=measured)


if __name__ == "__main__":
    main()
