"""What the programs' command lines have in common."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.alternate import Measured, alternate
from bench.floor import floor
from bench.machine import describe_machine
from bench.models import model_folder
from bench.report import describe, render, rows
from bench.side import Job, Side, SideFailed
from bench.workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parents[2]


def options(about: str) -> argparse.ArgumentParser:
    """Workloads, repetitions, threads, where things lie."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(WORKLOADS)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"one of {names}")
    parser.add_argument("--repeats", type=int, default=1, help="processes of each side (1)")
    parser.add_argument("--steps", type=int, help="timed steps in each process (the workload's own number)")
    parser.add_argument("--threads", type=int, default=cores(), help="of each process (all cores)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="that computes (cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "runs/benchmarks", help="models and tuned settings"
    )
    parser.add_argument("--list", action="store_true", help="show the workloads and their floors")
    return parser


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def known(parser: argparse.ArgumentParser, default: Sequence[str]) -> argparse.Namespace:
    """The arguments, with the default workloads where none are named; `--list` and unknown names end here."""
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name:<14}{told(workload)}" for name, workload in WORKLOADS.items()))
        sys.exit()
    if unknown := set(arguments.workloads) - WORKLOADS.keys():
        parser.error(f"no such workload: {min(unknown)}; there are {', '.join(WORKLOADS)}")
    arguments.workloads = arguments.workloads or list(default)
    return arguments


def told(workload: Workload) -> str:
    """A workload and its floor, in two lines."""
    return f"{workload.describe()}\n{'':<14}{describe(floor(workload))}"


def job_for(name: str, arguments: argparse.Namespace) -> Job:
    """The workload with its model's folder, made on first use."""
    workload = WORKLOADS[name]
    folder = model_folder(workload.shape, arguments.cache / "models", arguments.device)
    steps = arguments.steps or workload.steps
    return Job(workload, str(folder), arguments.threads, workload.warmup, steps, device=arguments.device)


def python_of(venv: Path) -> str:
    """The interpreter of an environment; ends with advice where there is none."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        sys.exit(f"there is no environment at {venv}; `benchmarks/peers.sh {venv} REQUIREMENTS` makes it")
    return str(python)


def measure(job: Job, sides: Mapping[Side, Mapping[str, Any]], arguments: argparse.Namespace) -> Measured:
    """Measure and print one workload; a side that fails ends the program."""
    try:
        measured = alternate(job, sides, arguments.repeats)
    except SideFailed as failure:
        sys.exit(str(failure))
    print(f"\n{render(measured)}\n", flush=True)
    return measured


def write(measured: Sequence[Measured], file: Path | None) -> None:
    """Everything as JSON, with its command, date and machine."""
    if file is None:
        return
    result = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "workloads": [
            {**one.to_json(), "floor": asdict(floor(one.workload)), "rows": rows(one)} for one in measured
        ],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1), encoding="utf-8")
