"""A side of the comparison is a module that is run in a process of its own, by the Python of its own environment.

It reads a `Job` from standard input and writes its result, a JSON object, to the file it is given; what it prints is
kept and shown only if it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.process import available_bytes, limit_memory, peak_bytes
from bench.workloads import Workload

HERE = Path(__file__).resolve().parents[1]
# What of the memory that is available now a process may take.
SHARE_OF_MEMORY = 0.9


class SideFailed(Exception):
    """A side ended without a result; its last lines say why."""


@dataclass(frozen=True)
class Job:
    """What a side is to compute, and with what settings of its own."""

    workload: Workload
    model: str
    threads: int
    warmup: int
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    memory_limit: int | None = None


@dataclass(frozen=True)
class Side:
    """A module below `bench` and the Python that runs it."""

    name: str
    module: str
    python: str


def run_side(side: Side, job: Job) -> dict[str, Any]:
    """The side's result; `SideFailed` where it has none."""
    available = available_bytes()
    # CUDA reserves addresses for far more than it uses, which such a limit would count.
    limit = None if available is None or job.device != "cpu" else int(available * SHARE_OF_MEMORY)
    message = json.dumps({**asdict(job), "memory_limit": limit})
    with tempfile.TemporaryDirectory() as folder:
        result, printed = Path(folder) / "result.json", Path(folder) / "printed.txt"
        with printed.open("wb") as stream:
            process = subprocess.Popen(
                [side.python, "-m", f"bench.{side.module}", str(result)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=_environment(job.threads),
            )
            process.communicate(message.encode())
        if process.returncode or not result.exists():
            last = printed.read_text(errors="replace").strip().splitlines()[-12:]
            raise SideFailed(f"{side.name} ended with {process.returncode}:\n" + "\n".join(last))
        return json.loads(result.read_text(encoding="utf-8"))


def _environment(threads: int) -> dict[str, str]:
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    offline = {f"{library}_OFFLINE": "1" for library in ("HF_HUB", "HF_DATASETS", "TRANSFORMERS")}
    return {
        **os.environ,
        **offline,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }


def serve(compute: Callable[[Job], dict[str, Any]]) -> None:
    """The side's end: read the job, keep its limits, compute, add the peak of memory, write."""
    values = json.load(sys.stdin)
    job = Job(**{**values, "workload": Workload.from_json(values["workload"])})
    limit_memory(job.memory_limit)
    import torch

    torch.set_num_threads(job.threads)
    result = {**compute(job), "peak_bytes": peak_bytes(job.device)}
    Path(sys.argv[1]).write_text(json.dumps(result), encoding="utf-8")
