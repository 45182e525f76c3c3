"""Grand Rounds beside TRL: whole steps of GRPO on the same weights, prompts, lengths, precision and threads.

    python benchmarks/compare.py                     the short set
    python benchmarks/compare.py A B32 --repeats 3   these workloads, each side in three processes, in turn
    python benchmarks/compare.py --list

TRL is run by the Python of its own environment, which `make bench` or `benchmarks/peers.sh` makes. Its micro-batch
is searched for each workload before anything is measured, and remembered in the cache.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.alternate import tell
from bench.machine import describe_machine
from bench.program import ROOT, job_for, known, measure, options, python_of, write
from bench.side import Side
from bench.tuning import best_trl_settings

SHORT = ("A", "E")


def main() -> None:
    """Measure, print a table for each workload, and write everything as JSON where asked."""
    parser = options(__doc__ or "")
    parser.add_argument(
        "--peers-venv",
        type=Path,
        default=ROOT / ".venv-peers",
        help="TRL's environment; with `here` it is this one",
    )
    parser.add_argument("--sides", nargs="+", choices=("ours", "TRL"), default=["ours", "TRL"])
    parser.add_argument(
        "--trl", type=json.loads, metavar="JSON", help='TRL\'s settings, unsearched: {"micro_batch": 16}'
    )
    parser.add_argument("--cap-gb", type=float, help="of a GPU's memory, what ours may take")
    arguments = known(parser, SHORT)
    ours = {} if arguments.cap_gb is None else {"cap_gb": arguments.cap_gb}
    print(describe_machine())
    measured = []
    for name in arguments.workloads:
        job, sides = job_for(name, arguments), {}
        if "ours" in arguments.sides:
            sides[Side("ours", "ours", sys.executable)] = ours
        if "TRL" in arguments.sides:
            trl = Side(
                "TRL",
                "trl_side",
                sys.executable if str(arguments.peers_venv) == "here" else python_of(arguments.peers_venv),
            )
            memory = arguments.cache / "tuned.json"
            sides[trl] = arguments.trl or best_trl_settings(trl, job, memory, tell)
        measured.append(measure(job, sides, arguments))
        write(measured, arguments.json)


if __name__ == "__main__":
    main()
