"""Freed memory stays with the process, unless the user has told the C library otherwise."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

LIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
pytestmark = pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="needs glibc 2.33")

# Bytes of a large block that the C library maps by itself (and gives back), and bytes it keeps once the block is freed.
SCRIPT = """
import ctypes
import torch
from grandrounds.policy.heap import keep_freed_memory

class Counts(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks mapped usmblks fsmblks uordblks free keepcost".split()]

counts = ctypes.CDLL(None).mallinfo2
counts.restype = Counts
keep_freed_memory()
before = counts()
block = torch.ones(20, 2**18)
mapped = counts().mapped - before.mapped
del block
print(mapped, counts().free - before.free)
"""
BLOCK = 20 * 2**20


def _mapped_and_kept(**environment: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    mapped, kept = map(int, done.stdout.split())
    return mapped, kept


def test_a_freed_block_stays_with_the_process() -> None:
    mapped, kept = _mapped_and_kept()
    assert mapped == 0
    assert kept > 0.9 * BLOCK


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_MMAP_THRESHOLD_": "1048576"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1048576"},
    ],
)
def test_what_the_environment_says_holds(environment: dict[str, str]) -> None:
    mapped, kept = _mapped_and_kept(**environment)
    assert mapped >= BLOCK
    assert kept < 0.1 * BLOCK
