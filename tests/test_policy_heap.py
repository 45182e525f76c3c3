"""Freed memory stays with the process, unless the user has told the C library otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

# How many pages of the last block are fresh. The first few are, until the heap's own small caches are full.
SCRIPT = """
import resource
import torch
from grandrounds.policy.heap import keep_freed_memory

keep_freed_memory()
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.ones(MIB, 2**18)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _fresh_pages(mib: int, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("MIB", str(mib))],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_a_freed_block_is_handed_out_again() -> None:
    assert _fresh_pages(20) < 50  # 20 MiB are 5,120 pages


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_MMAP_THRESHOLD_": "1048576"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1048576"},
    ],
)
def test_what_the_environment_says_holds(environment: dict[str, str]) -> None:
    assert _fresh_pages(20, **environment) > 1000
