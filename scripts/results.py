"""Writes the tables of docs/ from benchmarks/results/*.json: `make results`.

A result file holds where its figures come from, and the figures:

    commit (or null), command, processor, instructions, date, note, transcribed, columns, rows

A page asks for one by `<!-- result NAME -->`; what stands from there to `<!-- end -->` is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = tuple(
    ROOT / "docs" / name
    for name in (
        "PERFORMANCE.md",
        "RESULTS.md",
        "algorithms.md",
        "behaviour.md",
        "from-trl.md",
        "memory.md",
        "viewer.md",
        "rewards.md",
        "serving.md",
    )
)
PROVENANCE = ("commit", "command", "processor", "instructions", "date")
# A share is written with a space, whatever wrote the result.
_SHARE = re.compile(r"(?<=\d)%")
_MARKED = re.compile(r"<!-- result (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def table(result: Mapping[str, Any]) -> str:
    """The figures, and below them where they come from."""
    cells = [[_SHARE.sub(" %", cell) for cell in row] for row in (result["columns"], *result["rows"])]
    rows = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    lines = ["|" + "|".join(f" {cell} " if cell != "---" else "---" for cell in row) + "|" for row in rows]
    commit = f"commit {result['commit']}" if result["commit"] else "commit not recorded"
    source = f"*`{result['command']}`, {result['processor']} ({result['instructions']}), {result['date']}, {commit}.*"
    return "\n".join(
        [*lines, "", source, *([f"*{_SHARE.sub(' %', result['note'])}*"] if result.get("note") else [])]
    )


def page(text: str) -> str:
    """The page's text with its tables made anew. KeyError where a result lacks its provenance."""

    def replaced(match: re.Match[str]) -> str:
        result = json.loads((RESULTS / f"{match['name']}.json").read_text(encoding="utf-8"))
        missing = [key for key in (*PROVENANCE, "columns", "rows") if key not in result]
        if missing:
            raise KeyError(f"{match['name']}.json lacks {', '.join(missing)}")
        return f"<!-- result {match['name']} -->\n{table(result)}\n<!-- end -->"

    return _MARKED.sub(replaced, text)


def main() -> int:
    """Write the pages; with --check, say which are not what the results make of them."""
    stale = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        made = page(text)
        if made != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(made, encoding="utf-8")
    for path in stale:
        print(
            f"{path.relative_to(ROOT)} {'is not what the results say' if '--check' in sys.argv else 'is made anew'}"
        )
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
