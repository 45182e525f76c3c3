"""The machine under the benchmark: what it is, and what it computes and copies at best.

python -m bench.machine RESULT < JOB        as a side of its own, see `bench.side`
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.process import now
from bench.side import serve

MATRIX = 2048  # rows and columns: large enough that reading them is no matter
MATRIX_ON_A_GPU = 8192
COPIED = 512 * 2**20  # bytes: more than any cache holds
TRIES = 5
# What keeps libraries from instructions that the processor has.
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def matmul_rate(precision: str, device: str) -> float:
    """Operations per second of one large matrix product, the best of a few."""
    import torch

    dtype = getattr(torch, precision)
    size = MATRIX if device == "cpu" else MATRIX_ON_A_GPU
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype, device=device)
    return 2 * size**3 / _fastest(lambda: torch.mm(left, right, out=out), device)


def copy_rate(device: str) -> float:
    """Bytes read and written per second by one large copy, the best of a few."""
    import torch

    source, target = torch.ones(COPIED // 4, device=device), torch.zeros(COPIED // 4, device=device)
    return 2 * COPIED / _fastest(lambda: target.copy_(source), device)


def _fastest(call: Callable[[], Any], device: str) -> float:
    call()
    times = []
    for _ in range(TRIES):
        started = now(device)
        call()
        times.append(now(device) - started)
    return min(times)


def describe_machine() -> str:
    """Processor, number of cores, and which vector instructions are there and in use."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    features: list[str] = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    features += [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return f"{names[0] if names else platform.processor()}, {cores} cores ({', '.join(features)})"


if __name__ == "__main__":
    serve(
        lambda job: {"matmul": matmul_rate(job.workload.precision, job.device), "copy": copy_rate(job.device)}
    )
