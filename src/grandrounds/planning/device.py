"""How much memory a device has, and how much of it this process already takes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from grandrounds.errors import RecipeError

GIB = 2**30
# CUDA's context with torch's kernels; not measured here.
CONTEXT_BYTES = 512 * 2**20
UNITS = {
    f"{letter}{middle}B": base**power
    for middle, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", 1)
}


def parse_memory(text: str) -> int:
    """Bytes of "16GB" (16 · 10⁹) or "16GiB" (16 · 2³⁰); RecipeError for what is neither."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*", text, re.IGNORECASE)
    unit = next((size for name, size in UNITS.items() if found and name.lower() == found[2].lower()), None)
    if found is None or unit is None or float(found[1]) == 0:
        raise RecipeError(f"`{text}` is no amount of memory", where="--memory", hint="Write 16GB or 16GiB.")
    return int(float(found[1]) * unit)


def device_memory(device: str) -> int | None:
    """Bytes that a run in this process may take in all, its own included; None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0]) + CONTEXT_BYTES
    free = available_memory() if device == "cpu" else None
    return None if free is None else free + process_memory(device)


def process_memory(device: str) -> int:
    """Bytes that the process takes on the device before a model is loaded: Python and libraries, or CUDA's context."""
    if device != "cpu":
        return CONTEXT_BYTES
    import pyarrow

    pyarrow.array([0])  # for which it imports pandas: 64 MB, that the first round's trace would bring
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return _most_so_far()


def _most_so_far() -> int:
    """Where the system tells no more: the process's peak."""
    try:
        import resource
    except ImportError:  # Windows
        return CONTEXT_BYTES
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes this process may still take, a container's limit included; None where the system does not
    tell.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    for left in _left_in_groups(root / "sys/fs/cgroup"):
        free = min(free, max(0, left))
    return free


def _left_in_groups(group: Path) -> list[int]:
    """What a container's limits leave, of versions 2 and 1; files that are only cached do not count as used."""
    left = []
    for most, used, files in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            limit = int((group / most).read_text())
            taken = int((group / used).read_text())
        except (OSError, ValueError):  # "max" is no number: no limit
            continue
        left.append(limit - max(0, taken - _cached(group / files)))
    return left


def _cached(statistics: Path) -> int:
    """Bytes of files that the system drops when memory is short."""
    try:
        counts = dict(line.split() for line in statistics.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return sum(
        int(counts.get(f"total_{name}", counts.get(name, 0))) for name in ("active_file", "inactive_file")
    )
