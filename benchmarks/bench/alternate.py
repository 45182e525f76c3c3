"""The machine, one side, the other, and again: what else the machine does falls on all alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.side import Job, Side, run_side
from bench.workloads import Workload

MACHINE = Side("machine", "machine", sys.executable)


@dataclass(frozen=True)
class Measured:
    """Every result of one workload: of the machine, and of each side by name, the first being ours."""

    workload: Workload
    threads: int
    machine: list[Mapping[str, Any]] = field(default_factory=list)
    sides: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    settings: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return asdict(self)


def alternate(job: Job, sides: Mapping[Side, Mapping[str, Any]], repeats: int) -> Measured:
    """Run each side with its settings `repeats` times, in turn, each time in a process of its own."""
    measured = Measured(job.workload, job.threads)
    measured.settings.update({side.name: settings for side, settings in sides.items()})
    for _ in range(repeats):
        tell(f"{job.workload.name}: the machine")
        measured.machine.append(run_side(MACHINE, job))
        for side, settings in sides.items():
            tell(f"{job.workload.name}: {side.name}")
            result = run_side(side, replace(job, settings=settings))
            measured.sides.setdefault(side.name, []).append(result)
            tell(f"  {json.dumps(result)}")  # not lost if a later side hangs
    return measured


def tell(line: str) -> None:
    """Progress, beside the results."""
    print(line, file=sys.stderr, flush=True)
