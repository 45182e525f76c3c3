"""The command `audit`."""

from __future__ import annotations

import json
from pathlib import Path

from grandrounds.errors import RunError


def audit_labels(run: Path, limit: int, as_json: bool) -> None:
    """Print the cases of a run whose gold answers are suspect, and write all of them to RUN/suspects.jsonl."""
    from grandrounds.evaluation.suspects import suspects
    from grandrounds.training.files import saving, write_text
    from grandrounds.training.folder import RunFolder
    from grandrounds.training.trace import read_trace

    folder = RunFolder.open(run)
    table = read_trace(folder.path)
    if "given" not in table.column_names:
        raise RunError(
            "the rollouts are of an older version, which did not keep answers as they were understood",
            where=str(run),
            hint="Train again with this version.",
        )
    found = suspects(table.to_pylist())
    lines = [json.dumps(one.to_json(), ensure_ascii=False) for one in found]
    file = folder.path / "suspects.jsonl"
    with saving("suspects.jsonl", file):
        write_text(file, "".join(f"{line}\n" for line in lines))
    if as_json:
        print("\n".join(lines))
        return
    from rich.console import Console

    from grandrounds.report.suspects_table import print_suspects

    console = Console(highlight=False)
    print_suspects(console, found, limit)
    if found:
        console.print(f"All {len(found):,} with their reasoning: {file}", soft_wrap=True, markup=False)
