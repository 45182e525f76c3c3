"""How much memory there is: the machine's, or what a container leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from grandrounds.errors import RecipeError
from grandrounds.machine import available_memory, device_memory, parse_memory, process_memory


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


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (
            {
                "memory.max": "5000",
                "memory.current": "4000",
                "memory.stat": "anon 500\nactive_file 1000\ninactive_file 2500",
            },
            5000 - (4000 - 3500),  # files that are only cached do not count
        ),
        (
            {
                "memory/memory.limit_in_bytes": "5000",
                "memory/memory.usage_in_bytes": "4000",
                "memory/memory.stat": "active_file 7\ntotal_active_file 10\ntotal_inactive_file 20",
            },
            5000 - (4000 - 30),
        ),
        ({"memory.max": "100", "memory.current": "400", "memory.stat": ""}, 0),
    ],
)
def test_a_containers_limit_counts(tmp_path: Path, files: dict[str, str], left: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert available_memory(tmp_path) == left


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 2**20


def test_what_the_process_takes_is_part_of_what_it_may_take() -> None:
    own, free = process_memory("cpu"), device_memory("cpu")
    assert free is not None
    assert free > own > 10 * 2**20
    assert device_memory("mps") is None
