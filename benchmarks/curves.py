"""What our step costs as groups, prompts and answers grow: one of them at a time, the others as in the middle.

    python benchmarks/curves.py --out runs/benchmarks/curves

Writes a table (CSV), everything that was measured (JSON) and a chart (SVG): seconds of sampling and update, and those
that the update's floor of operations takes at the machine's measured rate.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.alternate import MACHINE, tell
from bench.chart import Panel, svg
from bench.floor import floor
from bench.machine import describe_machine
from bench.models import model_folder
from bench.program import ROOT, cores
from bench.report import times
from bench.side import Job, Side, SideFailed, run_side
from bench.workloads import SMALL, WORKLOADS, Workload

MIDDLE = replace(WORKLOADS["A"], name="middle", prompts=4, group=8, prompt_tokens=128, max_new=64)
AXES = {
    "group": ("completions per prompt (G)", (2, 4, 8, 16, 32)),
    "prompt_tokens": ("prompt tokens", (32, 128, 512, 1024)),
    "max_new": ("answer tokens", (16, 64, 256, 512)),
}
OURS = Side("ours", "ours", sys.executable)


def main() -> None:
    """Measure every point, then write the three files."""
    arguments = parse()
    print(describe_machine())
    model = str(model_folder(SMALL, arguments.cache / "models"))
    job = Job(MIDDLE, model, arguments.threads, MIDDLE.warmup, arguments.steps)
    try:
        matmul = run_side(MACHINE, job)["matmul"]
        rows = [
            measure(axis, replace(job, workload=workload), arguments.repeats, matmul)
            for axis, workload in points()
        ]
    except SideFailed as failure:
        sys.exit(str(failure))
    write(rows, arguments.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs/benchmarks/curves", help="without an ending")
    parser.add_argument("--repeats", type=int, default=1, help="processes for each point (1)")
    parser.add_argument("--steps", type=int, default=MIDDLE.steps, help="timed steps in each")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--cache", type=Path, default=ROOT / "runs/benchmarks", help="the model")
    return parser.parse_args()


def points() -> Iterator[tuple[str, Workload]]:
    """Each axis and its workloads."""
    for axis, (_, values) in AXES.items():
        for value in values:
            yield axis, replace(MIDDLE, **dict[str, Any]({axis: value}))


def measure(axis: str, job: Job, repeats: int, matmul: float) -> dict[str, Any]:
    """One row of the table. matmul: the machine's operations per second."""
    tell(f"{axis} {getattr(job.workload, axis)}")
    results, least = [run_side(OURS, job) for _ in range(repeats)], floor(job.workload)
    step = median(times(results, "step"))
    return {
        "axis": axis,
        "value": getattr(job.workload, axis),
        "sampling_s": median(times(results, "sampling")),
        "update_s": median(times(results, "update")),
        "step_s": step,
        "update_floor_s": least.update_operations / matmul,
        "tokens_per_s": least.completion_tokens / step,
        "peak_mb": max(result["peak_bytes"] for result in results) / 1e6,
    }


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Table, everything, chart."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    everything = {"middle": MIDDLE.to_json(), "machine": describe_machine(), "rows": rows}
    out.with_suffix(".json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    panels = []
    for axis, (title, _) in AXES.items():
        mine = [row for row in rows if row["axis"] == axis]
        lines = {
            "sampling": [row["sampling_s"] for row in mine],
            "update": [row["update_s"] for row in mine],
            "update's floor": [row["update_floor_s"] for row in mine],
        }
        panels.append(Panel(title, [row["value"] for row in mine], lines))
    out.with_suffix(".svg").write_text(svg(panels, "s"), encoding="utf-8")
    print(f"{out.with_suffix('.csv')}, .json and .svg")


if __name__ == "__main__":
    main()
