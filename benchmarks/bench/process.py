"""What this process takes of the machine's memory, and may take."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from pathlib import Path


def peak_bytes(device: str = "cpu") -> int:
    """The most memory this process has held at once; on a GPU, what torch took of the card's memory."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with what the parent held when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """From here on `peak_bytes` is of what comes; what was freed goes back to the system. Linux with glibc only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def now(device: str) -> float:
    """Seconds by the clock, once the device has done all it was told to."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


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
