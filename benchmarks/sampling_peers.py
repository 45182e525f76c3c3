"""Sampling alone: ours, transformers' `generate` and, where it is installed, vLLM on the CPU.

    python benchmarks/sampling_peers.py                     A, B32 and B16
    python benchmarks/sampling_peers.py A --sides ours vLLM --repeats 3

The whole weights of the workload's shape without an adapter, its prompts and its lengths. transformers is the one in
this environment; vLLM runs in its own, which benchmarks/requirements-vllm.txt describes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from bench.machine import describe_machine
from bench.program import ROOT, job_for, known, measure, options, python_of, write
from bench.side import Side
from bench.workloads import NO_ADAPTER

WORKLOADS = ("A", "B32", "B16")


def main() -> None:
    """Measure, print a table for each workload, and write everything as JSON where asked."""
    parser = options(__doc__ or "")
    parser.add_argument("--vllm-venv", type=Path, default=ROOT / ".venv-vllm", help="vLLM's environment")
    parser.add_argument("--sides", nargs="+", choices=("ours", "transformers", "vLLM"), help="all there are")
    arguments = known(parser, WORKLOADS)
    chosen = arguments.sides or ["ours", "transformers", *(["vLLM"] if arguments.vllm_venv.exists() else [])]
    known_sides = {
        "ours": lambda: Side("ours", "ours", sys.executable),
        "transformers": lambda: Side("transformers", "generate_side", sys.executable),
        "vLLM": lambda: Side("vLLM", "vllm_side", python_of(arguments.vllm_venv)),
    }
    sides = {known_sides[name](): {"sampling_only": True} if name == "ours" else {} for name in chosen}
    print(describe_machine())
    measured = []
    for name in arguments.workloads:
        job = job_for(name, arguments)
        job = replace(job, workload=replace(job.workload, adapter=NO_ADAPTER))
        measured.append(measure(job, sides, arguments))
        write(measured, arguments.json)


if __name__ == "__main__":
    main()
