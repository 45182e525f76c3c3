"""The machine under the benchmark: what it computes and copies at best, and what a process may take of its memory.

python -m bench.machine RESULT < JOB        as a side of its own, see `bench.side`
"""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MATRIX = 2048  # rows and columns: large enough that reading them is no matter
COPIED = 512 * 2**20  # bytes: more than any cache holds
TRIES = 5


def matmul_rate(precision: str) -> float:
    """Operations per second of one large matrix product, the best of a few."""
    import torch

    dtype = getattr(torch, precision)
    left, right = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
    out = torch.empty(MATRIX, MATRIX, dtype=dtype)
    return 2 * MATRIX**3 / _fastest(lambda: torch.mm(left, right, out=out))


def copy_rate() -> float:
    """Bytes read and written per second by one large copy, the best of a few."""
    import torch

    source, target = torch.ones(COPIED // 4), torch.zeros(COPIED // 4)
    return 2 * COPIED / _fastest(lambda: target.copy_(source))


def _fastest(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def peak_bytes() -> int:
    """The most memory this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with what the parent held when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_bytes() -> int | None:
    """Memory that is free or can be freed at once; None where the system does not say."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return None
    line = next(line for line in info.read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def limit_memory(limit: int | None) -> None:
    """Let this process' allocations fail at `limit` bytes, before the system runs out and kills somebody else."""
    if limit is not None and hasattr(resource, "RLIMIT_DATA") and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def describe_machine() -> str:
    """Processor and number of cores."""
    import os

    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{names[0] if names else platform.processor()}, {cores} cores ({', '.join(features)})"


if __name__ == "__main__":
    from bench.side import serve

    serve(lambda job: {"matmul": matmul_rate(job.workload.precision), "copy": copy_rate()})
