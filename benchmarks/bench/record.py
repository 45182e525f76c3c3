"""A result file as `scripts/results.py` reads it: figures, and where they come from."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe_machine

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


def record(
    file: Path, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str, **measured: Any
) -> None:
    """Write the figures with commit, command, processor, instructions and date, and all that was measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    program = Path(sys.argv[0]).resolve()
    result = {
        "commit": commit.stdout.strip() or None,
        "command": " ".join(["python", str(program.relative_to(ROOT)), *sys.argv[1:]]),
        "processor": describe_machine(),
        "instructions": instructions(),
        "date": time.strftime("%Y-%m-%d"),
        "note": note,
        "columns": columns,
        "rows": rows,
        **measured,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def instructions() -> str:
    """The widest vector instructions that torch uses here: "avx2", "avx512"."""
    import torch

    return torch.backends.cpu.get_cpu_capability().lower()
