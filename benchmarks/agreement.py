"""Do both sides do the same work? Ours and TRL on the same completions: the gradient's norm, step by step.

    python benchmarks/agreement.py
    python benchmarks/agreement.py smoke-ragged --steps 8

Advantages, loss, gradient, clipping and AdamW all show in it: from the second step on, norms agree only if the weights
moved alike. Full fine-tuning only, as the two sides draw their adapters' first weights differently.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from bench.program import ROOT, job_for, known, options, python_of
from bench.side import Side, SideFailed, run_side

TOLERANCE = 1e-4  # relative, in float32


def main() -> None:
    """Print both norms of each step; end with 1 where they differ."""
    parser = options(__doc__ or "")
    parser.add_argument("--peers-venv", type=Path, default=ROOT / ".venv-peers", help="TRL's environment")
    arguments = known(parser, ("smoke", "smoke-ragged"))
    sides = [Side("ours", "ours", sys.executable), Side("TRL", "trl_side", python_of(arguments.peers_venv))]
    worst = 0.0
    for name in arguments.workloads:
        job = replace(job_for(name, arguments), warmup=0, settings={"given": True})
        try:
            ours, theirs = ([row["grad_norm"] for row in run_side(side, job)["steps"]] for side in sides)
        except SideFailed as failure:
            sys.exit(str(failure))
        print(f"{name:<14}{'ours':>14}{'TRL':>14}{'difference':>14}")
        for step, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
            worst = max(worst, abs(mine / other - 1))
            print(f"  step {step:<7}{mine:>14.7f}{other:>14.7f}{mine / other - 1:>14.1e}")
    if worst > TOLERANCE:
        sys.exit(f"they differ by {worst:.1e}")


if __name__ == "__main__":
    main()
