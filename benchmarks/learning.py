"""The fast path learns what the plain one learns: curves of both on the embedded clinic, from one cold start.

    fast     with all kernels (`policy.kernels`)
    plain    with none: transformers' own attention and layers, padded batches, whole logits, no shared prompts

    python benchmarks/learning.py --out runs/learning
    python benchmarks/learning.py --cold runs/demo/reasoning --rounds 20

Both see the same cases and noise, so curves differ by floating-point noise alone, which grows from round to round: once
another token is drawn somewhere, they differ as two runs with other seeds do. The table tells the difference of each
round, averaged over seeds, with its standard error over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from bench.machine import describe_machine
from grandrounds import load_recipe, resume, train
from grandrounds.algorithm.grpo import Position, collect, compare, update_policy
from grandrounds.cli.train import quiet_libraries
from grandrounds.recipe import KernelsRecipe, Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.setup import assemble, grpo_learner

PATHS = ("fast", "plain")
# The clinic's own recipe, smaller: a short warm-up leaves much to learn.
SMALL = ("cases.clinic_train=2000", "cases.clinic_test=10", "sft.steps=400")
ROUND = ("grpo.cases_per_round=8", "grpo.warmup_rounds=0", "grpo.schedule=constant", "guard.enabled=false")


def main() -> None:
    """Train both ways from every seed, then print the table and write everything."""
    arguments = parse()
    quiet_libraries()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cold = arguments.cold or cold_start(arguments.out / "cold")
    curves = {
        path: [
            learn(path, recipe_for(path, cold, seed, arguments.rounds), arguments.out)
            for seed in arguments.seeds
        ]
        for path in PATHS
    }
    rows = table(curves)
    for line in rows:
        print(line)
    everything = {"machine": describe_machine(), "seeds": arguments.seeds, "curves": curves, "table": rows}
    (arguments.out / "learning.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--cold", type=Path, help="a run whose cold start to take; default: one is made")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def cold_start(folder: Path) -> Path:
    """A run of the warm-up alone; made on first use."""
    if (folder / "checkpoints" / COLD_START).exists():
        return folder
    if folder.exists():
        resume(folder, progress=SilentProgress())
    else:
        train(load_recipe("clinic", [*SMALL, "rounds=0"]), folder, progress=SilentProgress())
    return folder


def recipe_for(path: str, cold: Path, seed: int, rounds: int) -> Recipe:
    """The cold start's recipe, for rounds of GRPO from there."""
    kernels = [f"policy.kernels.{name}={str(path == 'fast').lower()}" for name in KernelsRecipe.model_fields]
    start = [f"policy.model={cold / 'checkpoints' / COLD_START}", "policy.adapter=full", "sft.steps=0"]
    return with_overrides(
        RunFolder.open(cold).recipe(),
        [*start, *ROUND, *kernels, f"rounds={rounds}", f"seed={seed}", "grpo.beta=0"],
    )


def learn(path: str, recipe: Recipe, out: Path) -> list[dict[str, float]]:
    """The curve: one row for each round."""
    folder = RunFolder.create(_fresh(out / f"{path}-{recipe.seed}"), recipe)
    setup = assemble(recipe, folder, SilentProgress())
    setup.learner = grpo_learner(recipe, setup.policy, setup.loss)
    grpo, rows, position = setup.grpo(), [], Position()
    while position.round < recipe.rounds:
        started = time.process_time()
        groups, position = collect(grpo, position)
        update_policy(grpo, compare(groups, recipe.grpo, grpo.rewards), position.round)
        known = [score for group in groups for score in group.scores["accuracy"] if score is not None]
        reward = float(np.mean([group.rewards for group in groups]))
        rows.append(
            {"reward": reward, "accuracy": float(np.mean(known)), "seconds": time.process_time() - started}
        )
    return rows


def table(curves: dict[str, list[list[dict[str, float]]]]) -> list[str]:
    """By round and for all rounds: both paths' means over seeds, and the paired difference with its noise."""
    lines = [
        f"{'round':<8}{'reward: fast':>13}{'plain':>8}{'difference':>20}"
        f"{'accuracy: fast':>17}{'plain':>8}{'difference':>20}"
    ]
    rewards, right = (
        {path: np.array([[row[key] for row in curve] for curve in curves[path]]) for path in PATHS}
        for key in ("reward", "accuracy")
    )  # [seeds, rounds] each
    rounds = rewards["fast"].shape[1]
    parts = [(str(number + 1), slice(number, number + 1)) for number in range(rounds)]
    for name, part in [*parts, ("all", slice(None))]:
        cells = "".join(
            f"{values['fast'][:, part].mean():>{width}.3f}{values['plain'][:, part].mean():>8.3f}"
            f"{_difference(values['fast'][:, part], values['plain'][:, part]):>20}"
            for values, width in ((rewards, 13), (right, 17))
        )
        lines.append(f"{name:<8}{cells}")
    seconds = {
        path: sum(row["seconds"] for curve in curves[path] for row in curve) / len(curves[path]) / rounds
        for path in PATHS
    }
    lines.append(f"processor seconds a round: fast {seconds['fast']:.2f}, plain {seconds['plain']:.2f}")
    return lines


def _difference(fast: np.ndarray, plain: np.ndarray) -> str:
    """Mean over seeds of fast - plain, and the standard error of that mean; [seeds, rounds] each."""
    differences = (fast - plain).mean(1)
    if len(differences) < 2:
        return f"{differences.mean():+.3f}"
    return f"{differences.mean():+.3f} ± {differences.std(ddof=1) / np.sqrt(len(differences)):.3f}"


def _fresh(folder: Path) -> Path:
    """A name that no run has."""
    number, name = 1, folder
    while name.exists():
        number += 1
        name = folder.with_name(f"{folder.name}-{number}")
    return name


if __name__ == "__main__":
    main()
