"""Held-out accuracy against wall time beside TRL: one language model, cold start, cases, rewards and settings.

    python benchmarks/beside_trl.py cold --cases phenopackets.jsonl.gz --model model.gguf
    python benchmarks/beside_trl.py ours --seed 0 --minutes 30
    python benchmarks/beside_trl.py trl --seed 0 --minutes 30 --peers-venv .venv-peers
    python benchmarks/beside_trl.py score          answers the held-out cases by every saved adapter, which takes long
    python benchmarks/beside_trl.py table          writes benchmarks/results/beside-trl.json and docs/beside-trl.svg

Everything lies in runs/beside-trl; each command does one piece. `cold` teaches the form by the recipe named, and merges
it into the weights that both begin with. Both see the same cases in the same order, and save their adapters
while the clock stands still. `score` is one program for both, and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.chart import Panel, svg
from bench.record import RESULTS, ROOT, record
from grandrounds.algorithm.cursor import Weights, take
from grandrounds.algorithm.grpo import Round
from grandrounds.cases.load import load_cases
from grandrounds.cases.mix import case_weights
from grandrounds.cli.train import quiet_libraries
from grandrounds.evaluating import EvaluationRequest, evaluate_target
from grandrounds.policy.load import load_policy
from grandrounds.policy.merged import ADAPTER_CONFIG, merged
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe, with_overrides
from grandrounds.sampling.prompts import make_prompts
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.run import resume, train
from grandrounds.training.target import Target
from grandrounds.types import CaseBook

SIDES = ("ours", "trl")
EVERY = 5  # rounds between saved adapters
MOST_ROUNDS = 2000
TRL_ROUNDS = 300  # that prompts are written down for
HELD_OUT = 150
MINUTES = (0, 5, 10, 15, 20, 25, 30, 45, 60, 90)


def main() -> None:
    """One piece of the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("piece", choices=("cold", *SIDES, "score", "table"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs/beside-trl")
    parser.add_argument("--cases", help="for `cold`: what `cases.source` takes")
    parser.add_argument("--recipe", default="phenopackets-llm", help="for `cold`")
    parser.add_argument("--model", help="for `cold`: what `policy.model` takes")
    parser.add_argument("--seed", type=int, default=0, help="of the rounds; the cold start is one for all")
    parser.add_argument("--minutes", type=float, default=30.0, help="of rounds")
    parser.add_argument("--micro-batch", type=int, default=8, help="TRL's completions in one forward pass")
    parser.add_argument("--peers-venv", type=Path, default=ROOT / ".venv-peers")
    arguments = parser.parse_args()
    quiet_libraries()
    pieces = {"cold": cold, "ours": ours, "trl": trl, "score": score, "table": table}
    pieces[arguments.piece](arguments)


def cold(arguments: argparse.Namespace) -> None:
    """The cold start, merged into the model's weights."""
    named = Path(arguments.cases)
    source = named.resolve() if named.exists() else arguments.cases
    recipe = load_recipe(
        arguments.recipe,
        [
            f"cases.source={json.dumps(str(source))}",
            f"policy.model={json.dumps(arguments.model)}",
            "rounds=0",
        ],
    )
    if not (arguments.out / "cold").exists():
        train(recipe, arguments.out / "cold")
    checkpoint = arguments.out / "cold/checkpoints" / COLD_START
    model = json.loads((checkpoint / ADAPTER_CONFIG).read_text())["base_model_name_or_path"]
    base = merged(checkpoint, model, model)
    (arguments.out / "base").symlink_to(base)


def recipe_of(out: Path, seed: int) -> Recipe:
    """The rounds of the cold start's recipe from the merged cold start, without evaluations between."""
    return with_overrides(
        RunFolder.open(out / "cold").recipe(),
        [
            f"seed={seed}",
            f"policy.model={json.dumps(str(out / 'base'))}",
            "sft.steps=0",
            f"rounds={MOST_ROUNDS}",
            f"checkpoint.every={EVERY}",
            f"checkpoint.keep={MOST_ROUNDS}",
            "evaluation.every=0",
            "guard.enabled=false",
        ],
    )


def book_of(out: Path) -> CaseBook:
    """The cases that the cold start was taught, and the same held-out ones for everybody."""
    recipe = RunFolder.open(out / "cold").recipe()
    return load_cases(recipe.cases, seed=recipe.seed)


def ours(arguments: argparse.Namespace) -> None:
    """Rounds by Grand Rounds until the minutes are over; the same command goes on with an interrupted run."""
    folder = arguments.out / f"ours-{arguments.seed}"

    def stop(done: Round) -> None:
        spent = sum(row["step_time"] for row in RunFolder.open(folder).metrics())
        if spent > 60 * arguments.minutes and done.position.round % EVERY == 0:
            os.kill(os.getpid(), signal.SIGINT)

    # In memory, so that both sides get the cases of the cold start's seed.
    book = book_of(arguments.out)
    if folder.exists():
        resume(folder, cases=book, callbacks=[stop])
    else:
        train(recipe_of(arguments.out, arguments.seed), folder, cases=book, callbacks=[stop])


def trl(arguments: argparse.Namespace) -> None:
    """Rounds by TRL in its own environment, on prompts and cases written down here."""
    out = arguments.out.resolve()
    recipe, book = recipe_of(out, arguments.seed), book_of(out)
    policy = load_policy(recipe.policy, seed=arguments.seed)
    per_round = recipe.grpo.cases_per_round
    weights = case_weights(recipe.cases, book.train)
    drawn = None if weights is None else Weights(weights)
    order = [
        i
        for done in range(TRL_ROUNDS)
        for i in take(len(book.train), done * per_round, per_round, recipe.seed, drawn)
    ]
    prompts = make_prompts(policy, [book.train[i] for i in order], recipe.prompt, recipe.grpo.max_new_tokens)
    job = {
        "model": str(out / "base"),
        "folder": str(out / f"trl-{arguments.seed}"),
        "recipe": recipe.model_dump(mode="json"),
        "minutes": arguments.minutes,
        "micro_batch": arguments.micro_batch,
        "every": EVERY,
        "prompts": [[vars(message) for message in prompt.messages] for prompt in prompts],
        "first_tokens": prompts[0].tokens.tolist(),
        "places": order,
        "seed": arguments.seed,
        "cases": RunFolder.open(out / "cold").recipe().cases.model_dump(mode="json"),
        "cases_seed": RunFolder.open(out / "cold").recipe().seed,
    }
    del policy
    file = out / f"trl-{arguments.seed}.job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    subprocess.run(
        [arguments.peers_venv / "bin/python", ROOT / "benchmarks/bench/trl_learning.py", file],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "benchmarks")))},
        check=True,
    )


def adapters(out: Path, side: str, seed: int) -> Iterator[tuple[int, float, Path]]:
    """(round, seconds of training up to it, folder) of each saved adapter, the cold start's without one first."""
    folder = out / f"{side}-{seed}"
    yield 0, 0.0, out / "base"
    if side == "ours":
        seconds = np.cumsum([row["step_time"] for row in RunFolder.open(folder).metrics()])
        saved = sorted((folder / "checkpoints").glob("[0-9]*"))
    else:
        rows = (folder / "clock.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = np.cumsum([json.loads(row)["seconds"] for row in rows])
        saved = sorted((folder / "adapters").glob("[0-9]*"))
    for place in saved:
        if int(place.name):
            yield int(place.name), float(seconds[int(place.name) - 1]), place


def score(arguments: argparse.Namespace) -> None:
    """Greedy answers to the same held-out cases by every adapter of every side and seed."""
    out, book = arguments.out, book_of(arguments.out)
    held_out = CaseBook(train=(), test=book.test, knowledge=book.knowledge)
    for side in SIDES:
        for seed in seeds(out, side):
            file = out / f"{side}-{seed}.scores.json"
            known = json.loads(file.read_text()) if file.exists() else []
            for done, seconds, folder in adapters(out, side, seed):
                if done in [row["round"] for row in known]:
                    continue
                began = time.monotonic()
                target = Target(side, str(folder), recipe_of(out, seed), None, is_run=False)
                result = evaluate_target(target, EvaluationRequest(held_out, limit=HELD_OUT))
                right = [case.id for case in result.cases if case.first.correct]
                known.append(
                    {
                        "round": done,
                        "seconds": seconds,
                        "accuracy": result.accuracy.value,
                        "format_rate": result.format.value,
                        "right": right,
                    }
                )
                file.write_text(json.dumps(known, indent=1), encoding="utf-8")
                print(
                    f"{side} {seed} round {done}: {seconds / 60:.1f} min, {result.accuracy.value:.1%} right "
                    f"(scored in {time.monotonic() - began:.0f} s)",
                    flush=True,
                )


def seeds(out: Path, side: str) -> list[int]:
    """The seeds that this side has begun."""
    return [seed for seed in range(100) if (out / f"{side}-{seed}").is_dir()]


def at(rows: list[dict[str, Any]], minutes: float) -> float | None:
    """The accuracy of the newest adapter at this time; None after the last one."""
    if minutes * 60 > rows[-1]["seconds"] + 120:
        return None
    return [row["accuracy"] for row in rows if row["seconds"] <= minutes * 60][-1]


def table(arguments: argparse.Namespace) -> None:
    """Accuracy at the same minutes, and minutes to the same accuracy."""
    out = arguments.out
    curves = {
        (side, seed): json.loads((out / f"{side}-{seed}.scores.json").read_text())
        for side in SIDES
        for seed in seeds(out, side)
    }
    times = [
        minutes for minutes in MINUTES if all(at(curve, minutes) is not None for curve in curves.values())
    ]
    rows = [
        [
            f"{side}, seed {seed}",
            *(f"{at(curve, minutes):.1%}" for minutes in times),
            f"{curve[-1]['round']}",
            f"{60 * curve[-1]['round'] / max(curve[-1]['seconds'], 1e-9):.2f}",
        ]
        for (side, seed), curve in curves.items()
    ]
    columns = ["held-out accuracy after minutes", *(f"{m}" for m in times), "rounds", "rounds a minute"]
    record(
        RESULTS / "beside-trl.json",
        columns,
        rows,
        f"{HELD_OUT} held-out cases, greedy; both from one cold start. TRL's micro-batch is {arguments.micro_batch}.",
        settings=decisive(recipe_of(out, 0)),
        curves={f"{side}-{seed}": curve for (side, seed), curve in curves.items()},
    )
    lines = {
        f"{side}, seed {seed}": [at(curve, minutes) or 0.0 for minutes in times]
        for (side, seed), curve in curves.items()
    }
    panel = Panel("held-out accuracy after minutes", times, lines)
    (ROOT / "docs/beside-trl.svg").write_text(svg([panel], ""), encoding="utf-8")


def decisive(recipe: Recipe) -> dict[str, Any]:
    """What decided, of the recipe."""
    return {name: getattr(recipe, name).model_dump(mode="json") for name in ("grpo", "policy", "sft")}


if __name__ == "__main__":
    main()
