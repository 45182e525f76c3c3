"""How much memory there is: the machine's, or what a container leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from grandrounds.errors import RecipeError
from grandrounds.planning.device import available_memory, device_memory, parse_memory, process_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GB", 16 * 10**9), ("16GiB", 16 * 2**30), ("1.5 gib", 3 * 2**29), ("800MB", 8 * 10**8)],
)
def test_amounts_of_memory_are_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["16", "GB", "16 apples", "-1GB", "0GB", "1e3GB", ""])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        parse_memory(text)
    assert refusal.value.where == "--memory"


def machine(root: Path, **files: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cached_files_leave_a_container_its_memory(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        **{
            "memory.max": "5000\n",
            "memory.current": "4000\n",
            "memory.stat": "anon 500\nactive_file 1000\ninactive_file 2500\n",
        },
    )
    assert available_memory(root) == 5000 - (4000 - 3500)


def test_containers_of_the_first_version_count_too(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        **{
            "memory__memory.limit_in_bytes": "5000\n",
            "memory__memory.usage_in_bytes": "4000\n",
            "memory__memory.stat": "total_active_file 10\ntotal_inactive_file 20\n",
        },
    )
    assert available_memory(root) == 1030


def test_what_the_process_takes_is_part_of_what_it_may_take() -> None:
    free, own = device_memory("cpu"), process_memory("cpu")
    assert own > 10 * 2**20
    if free is not None:
        assert free > own
    assert device_memory("mps") is None
