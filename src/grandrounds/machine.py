"""How much memory a device has, and how much of it this process already uses."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from grandrounds.errors import RecipeError

GIB = 2**30
# Memory of CUDA's context with torch's kernels; an estimate from experience, not measured here.
CONTEXT_BYTES = 512 * 2**20


def parse_memory(text: str) -> int:
    """Bytes of "16GB" (16 · 10⁹) or "16GiB" (16 · 2³⁰). RecipeError for any other text."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(I?)B\s*", text.upper())
    if found is None or float(found[1]) == 0:
        raise RecipeError(f"`{text}` is no amount of memory", where="--memory", hint="Write 16GB or 16GiB.")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** (1 + "KMGT".index(found[2])))


def size(count: float) -> str:
    """A number of bytes as text: 12.3 GiB, 480 MiB, 16 KiB."""
    if count >= GIB:
        return f"{count / GIB:,.1f} GiB"
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count / 1024:,.0f} KiB"


def device_memory(device: str) -> int | None:
    """Bytes that a run in this process may use in all, with those it uses already. None where they are not known."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0]) + CONTEXT_BYTES
    return available_memory() + process_memory(device) if device == "cpu" else None


def process_memory(device: str) -> int:
    """Bytes that the process uses on the device before a run: Python and libraries, or CUDA's context."""
    return int(psutil.Process().memory_info().rss) if device == "cpu" else CONTEXT_BYTES


def memory_in_use(device: str) -> int:
    """Bytes of the process now; on CUDA the most that tensors have taken so far."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    return int(psutil.Process().memory_info().rss)


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still allocate: the machine's free memory, or what a container's limit leaves."""
    left = [int(psutil.virtual_memory().available)]
    for most, used, total in (
        ("memory.max", "memory.current", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_"),  # cgroups, version 1
    ):
        try:
            limit, taken = (int((groups / name).read_text()) for name in (most, used))
            lines = (groups / most).with_name("memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # "max" is not a number: there is no limit
            continue
        # The system drops pages that only cache files when memory is short.
        cached = sum(int(line.split()[1]) for line in lines if re.match(f"{total}(in)?active_file ", line))
        left.append(limit - max(0, taken - cached))
    return max(0, min(left))
