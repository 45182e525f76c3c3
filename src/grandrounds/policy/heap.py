"""The process's heap on a CPU: memory that was freed stays, for the next tensor of its size.

Fresh memory is mapped and zeroed by the system page by page, which takes longer than most of the arithmetic on it. By
default glibc gives freed blocks back and asks for them anew with every layer of every step.
"""

from __future__ import annotations

import ctypes
import os
import platform

# glibc's numbers for what `mallopt` sets, and the most that every version of it takes for the second.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
LARGEST_HEAP_BLOCK = 32 * 2**20
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """From now on glibc gives back no freed blocks but those above 32 MiB.

    Does nothing where there is no glibc, or where the environment tells it what to do with freed blocks.
    """
    if platform.libc_ver()[0] == "glibc" and not _told_by_the_user():
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)


def _told_by_the_user() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(
        f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}=" in tunables
        for name in ("trim_threshold", "mmap_threshold")
    )
