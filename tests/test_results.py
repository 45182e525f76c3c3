"""The tables of docs/ are what benchmarks/results say, and every result says where it comes from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))


def test_the_pages_are_what_the_results_make_of_them() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/results.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_tables_write_shares_in_one_way(page: Path) -> None:
    made = re.findall(
        r"<!-- result [\w-]+ -->\n(.*?)<!-- end -->", page.read_text(encoding="utf-8"), re.DOTALL
    )
    assert not re.search(r"\d%", "".join(made))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_where_it_comes_from(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["command"]
    assert result["processor"]
    assert result["instructions"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", result["date"])
    # What was measured before results were kept may lack its commit; nothing new may.
    assert result["commit"] or result["transcribed"]
    assert {len(row) for row in result["rows"]} == {len(result["columns"])}
