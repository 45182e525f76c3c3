"""How long until something happens: from a command to its first training step, its error, its plan.

    python benchmarks/start.py
    python benchmarks/start.py --repeats 5

Each command in turn, with all of the processor's instructions and with AVX2 alone, as most laptops have it. Medians; a
first round, which fills the page cache, does not count. Writes benchmarks/results/start.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

from bench.record import RESULTS, record

PROGRAM = [sys.executable, "-m", "grandrounds"]
SMALLEST = [
    *("--set", "cases.clinic_train=120"),
    *("--set", "policy.scratch.layers=1"),
    *("--set", "sft.steps=1"),
    *("--set", "rounds=0"),
]
# What is timed -> the command, and what its output begins a line with when the clock stops; "" for its end.
TIMED = {
    "importing torch and transformers' models": (
        [sys.executable, "-c", "import torch; from transformers import PreTrainedModel"],
        "",
    ),
    "the smallest recipe, to its first step": ([*PROGRAM, "train", "clinic", *SMALLEST], "warm-up 1/1"),
    "the smallest recipe, to its end": ([*PROGRAM, "train", "clinic", *SMALLEST], ""),
    "an unknown key in a recipe": ([*PROGRAM, "train", "clinic", "--set", "sft.step=1"], ""),
    "`plan medqa --no-probe`, without a network": ([*PROGRAM, "plan", "medqa", "--no-probe"], ""),
}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
COLUMNS = {"all instructions": {}, "AVX2 alone": AVX2}


def main() -> None:
    """Time all, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(repeats + 1):
        for what, (command, until) in TIMED.items():
            for column, limits in COLUMNS.items():
                spent = timed(command, until, limits)
                print(f"{what}, {column}: {spent:.2f} s", flush=True)
                if number:
                    seconds[what, column].append(spent)
    rows = [
        [what, *(f"{statistics.median(seconds[what, column]):.1f}" for column in COLUMNS)] for what in TIMED
    ]
    note = f"Medians of {repeats}, with the libraries' files in the page cache."
    record(RESULTS / "start.json", ["seconds", *COLUMNS], rows, note)


def timed(command: list[str], until: str, limits: dict[str, str]) -> float:
    """Seconds until a line of the output begins so, or to the command's end."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **limits},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            stopped = None
            for line in process.stdout:
                if until and stopped is None and line.startswith(until):
                    stopped = time.perf_counter()
            process.wait()
        if until and stopped is None:
            raise SystemExit(f"{' '.join(command)} ended without printing {until!r}")
        return (stopped or time.perf_counter()) - began


if __name__ == "__main__":
    main()
