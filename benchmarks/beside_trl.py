"""Held-out accuracy against wall time beside TRL: one language model, cold start, cases, rewards and settings.

    python benchmarks/beside_trl.py cold --cases phenopackets.jsonl.gz --model model.gguf
    python benchmarks/beside_trl.py ours --seed 0 --minutes 30
    python benchmarks/beside_trl.py trl --seed 0 --minutes 30 --peers-venv .venv-peers
    python benchmarks/beside_trl.py sft --seed 0 --minutes 30
    python benchmarks/beside_trl.py score          answers the held-out cases, which takes minutes an adapter
    python benchmarks/beside_trl.py table          writes benchmarks/results/beside-trl.json and docs/beside-trl.svg

Everything lies in runs/beside-trl; each command does one piece. `cold` teaches the form by the recipe named, and merges
it into the weights that all begin with. `ours` and `trl` see the same cases in the same order; `sft`, the control, goes
on with the demonstrations of the cold start. Adapters are saved while the clock stands still. `score` is one program
for all, answers by the adapters that the table reads, and goes on where it stopped. `table` keeps the seeds recorded
earlier.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from grandrounds.evaluation.statistics import mcnemar_exact, wilson
from grandrounds.policy.load import load_policy
from grandrounds.policy.merged import ADAPTER_CONFIG, merged
from grandrounds.policy.save import save_policy
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe, with_overrides
from grandrounds.sampling.prompts import make_prompts
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.objects import Objects
from grandrounds.training.progress import PlainProgress
from grandrounds.training.run import resume, train
from grandrounds.training.setup import assemble
from grandrounds.training.target import Target
from grandrounds.training.warmup import sft_step, teachable
from grandrounds.types import CaseBook

Row = dict[str, Any]  # an adapter's scores
NAMES = {"ours": "Grand Rounds", "trl": "TRL", "sft": "SFT"}
EVERY = 5  # our rounds between saved adapters
TRL_EVERY = 1  # a round of TRL takes longer
SFT_EVERY = 10  # steps
MOST = 2000  # rounds or steps, more than there is time for
TRL_ROUNDS = 300  # that prompts are written down for
MINUTES = (0, 5, 10, 20, 30, 60, 90)
GRACE = 2.0  # minutes by which a run's last round may end before one of MINUTES, or after it
RESULT = RESULTS / "beside-trl.json"


def main() -> None:
    """One piece of the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("piece", choices=("cold", *NAMES, "score", "table"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs/beside-trl")
    parser.add_argument("--cases", help="for `cold`: what `cases.source` takes")
    parser.add_argument("--recipe", default="phenopackets-llm", help="for `cold`")
    parser.add_argument("--model", help="for `cold`: what `policy.model` takes")
    parser.add_argument("--seed", type=int, default=0, help="of the rounds; the cold start is one for all")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--micro-batch", type=int, default=8, help="TRL's completions in one forward pass")
    parser.add_argument("--peers-venv", type=Path, default=ROOT / ".venv-peers")
    arguments = parser.parse_args()
    quiet_libraries()
    pieces = {"cold": cold, "ours": ours, "trl": trl, "sft": sft, "score": score, "table": table}
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
            f"rounds={MOST}",
            f"checkpoint.every={EVERY}",
            f"checkpoint.keep={MOST}",
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
        "every": TRL_EVERY,
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


def sft(arguments: argparse.Namespace) -> None:
    """Steps on the demonstrations at a constant rate, the highest of the cold start; begins anew when interrupted."""
    path = arguments.out / f"sft-{arguments.seed}"
    shutil.rmtree(path, ignore_errors=True)
    taught = RunFolder.open(arguments.out / "cold").recipe().sft
    recipe = recipe_of(arguments.out, arguments.seed).model_copy(update={"sft": taught})
    objects = Objects(cases=book_of(arguments.out))
    folder = RunFolder.create(path, objects.named_in(recipe))
    setup = assemble(recipe, folder, PlainProgress(), objects=objects)
    cases = teachable(setup)
    weights, spent = setup.weights_of(cases), 0.0
    for step in range(1, MOST):
        began = time.perf_counter()
        metrics = sft_step(setup, cases, weights, step, taught.learning_rate)
        spent += (seconds := time.perf_counter() - began)
        with (path / "clock.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"round": step, "seconds": seconds, **metrics}) + "\n")
        over = spent > 60 * arguments.minutes
        if step % SFT_EVERY == 0 or over:
            save_policy(setup.policy, path / "adapters" / f"{step:06d}")
        if over:
            return


@dataclass(frozen=True)
class Saved:
    """An adapter: after which round, after how many seconds of training, where."""

    round: int
    seconds: float
    folder: Path


def adapters(out: Path, side: str, seed: int) -> Iterator[Saved]:
    """Each saved adapter; first the cold start, which has none."""
    folder = out / f"{side}-{seed}"
    yield Saved(0, 0.0, out / "base")
    if side == "ours":
        seconds = np.cumsum([row["step_time"] for row in RunFolder.open(folder).metrics()])
        saved = sorted((folder / "checkpoints").glob("[0-9]*"))
    else:
        rows = (folder / "clock.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = np.cumsum([json.loads(row)["seconds"] for row in rows])
        saved = sorted((folder / "adapters").glob("[0-9]*"))
    for place in saved:
        if int(place.name):
            yield Saved(int(place.name), float(seconds[int(place.name) - 1]), place)


def chosen(saved: Sequence[Saved]) -> list[Saved]:
    """Of all saved adapters those that the table reads: the newest at each of its minutes."""
    last = saved[-1].seconds
    limits = [limit for minute in MINUTES if (limit := until(minute, last)) is not None]
    return list(dict.fromkeys([one for one in saved if one.seconds <= limit][-1] for limit in limits))


def score(arguments: argparse.Namespace) -> None:
    """Greedy answers to the same held-out cases by the chosen adapters of every side and seed."""
    out, book = arguments.out, book_of(arguments.out)
    held_out = CaseBook(train=(), test=book.test, knowledge=book.knowledge)
    cold: dict[str, Any] | None = None
    for side, seed in begun(out):
        file = out / f"{side}-{seed}.scores.json"
        known = json.loads(file.read_text()) if file.exists() else []
        for saved in chosen(list(adapters(out, side, seed))):
            if saved.round in [row["round"] for row in known]:
                continue
            if saved.round == 0 and cold is not None:
                known.append(cold)
            else:
                known.append(scored(out, seed, saved, held_out))
            if saved.round == 0:
                cold = known[-1]
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
            row = known[-1]
            print(
                f"{side} {seed} round {saved.round}: {saved.seconds / 60:.1f} min, {row['accuracy']:.1%}",
                flush=True,
            )


def scored(out: Path, seed: int, saved: Saved, held_out: CaseBook) -> dict[str, Any]:
    """What one adapter answers."""
    target = Target("adapter", str(saved.folder), recipe_of(out, seed), None, is_run=False)
    result = evaluate_target(target, EvaluationRequest(held_out))
    return {
        "round": saved.round,
        "seconds": saved.seconds,
        "cases": len(result.cases),
        "accuracy": result.accuracy.value,
        "format_rate": result.format.value,
        "right": [place for place, case in enumerate(result.cases) if case.first.correct],
    }


def begun(out: Path) -> list[tuple[str, int]]:
    """The sides and seeds that were begun."""
    return [(side, seed) for side in NAMES for seed in range(100) if (out / f"{side}-{seed}").is_dir()]


def at(rows: Sequence[Row], minutes: float) -> Row | None:
    """The newest adapter's row at this time; None after the last one."""
    limit = until(minutes, rows[-1]["seconds"])
    return None if limit is None else [row for row in rows if row["seconds"] <= limit][-1]


def until(minutes: float, last: float) -> float | None:
    """Seconds up to which an adapter counts for these minutes. last: seconds of the last one. None after that."""
    late = last - 60 * minutes
    if abs(late) <= 60 * GRACE:
        return last
    return 60 * minutes if late > 0 else None


def table(arguments: argparse.Namespace) -> None:
    """Accuracy at the same minutes, for every seed, those recorded earlier too."""
    out = arguments.out
    curves: dict[str, list[Row]] = json.loads(RESULT.read_text())["curves"] if RESULT.exists() else {}
    for side, seed in begun(out):
        curves[f"{side}-{seed}"] = json.loads((out / f"{side}-{seed}.scores.json").read_text())
    curves = dict(sorted(curves.items(), key=lambda entry: order(entry[0])))
    minutes = [minute for minute in MINUTES if any(at(curve, minute) for curve in curves.values())]
    record(
        RESULT,
        [
            "",
            *(f"after {minute} min" for minute in minutes),
            "rounds or steps",
            "a minute",
            "against TRL after the same time",
        ],
        [line(name, minutes, curves) for name in curves],
        f"Accuracy on {curves['ours-0'][0]['cases']} held-out cases, greedy, 95 % intervals, by the newest adapter at "
        f"that time (the last may be {GRACE:.0f} minutes late); from one cold start. TRL's micro-batch is "
        f"{arguments.micro_batch}.",
        settings=decisive(recipe_of(out, 0)),
        curves=curves,
    )
    seeds = sorted({order(name)[1] for name in curves})
    panels = [picture(seed, curves) for seed in seeds]
    (ROOT / "docs/beside-trl.svg").write_text(svg(panels, "%"), encoding="utf-8")


def order(name: str) -> tuple[int, int]:
    """Sides as NAMES has them, then seeds."""
    side, seed = name.split("-")
    return list(NAMES).index(side), int(seed)


def line(name: str, minutes: Sequence[int], curves: Mapping[str, Sequence[Row]]) -> list[str]:
    """One row of the table."""
    side, seed = name.split("-")
    curve = curves[name]
    rows, last = [at(curve, minute) for minute in minutes], curve[-1]
    rival = curves.get(f"trl-{seed}") if side != "trl" else None
    return [
        f"{NAMES[side]}, seed {seed}",
        *("–" if row is None else share(row) for row in rows),
        f"{last['round']}",
        f"{60 * last['round'] / last['seconds']:.2f}",
        "" if rival is None else against(*together(curve, rival)),
    ]


def share(row: Row) -> str:
    """Accuracy with its 95 % interval."""
    low, high = wilson(len(row["right"]), row["cases"])
    return f"{row['accuracy']:.1%} ({low:.1%}–{high:.1%})"


def together(curve: Sequence[Row], rival: Sequence[Row]) -> tuple[Row, Row]:
    """Both at the last minute that both have."""
    pairs = [(at(curve, minute), at(rival, minute)) for minute in MINUTES]
    return [(one, other) for one, other in pairs if one and other][-1]


def against(row: Row, rival: Row) -> str:
    """Cases that one has right and the other not, and the exact McNemar test."""
    won, lost = len({*row["right"]} - {*rival["right"]}), len({*rival["right"]} - {*row["right"]})
    return f"{won} won, {lost} lost, p = {mcnemar_exact(won, lost).p:.2g}"


def picture(seed: int, curves: Mapping[str, Sequence[Row]]) -> Panel:
    """One seed's curve on each side, up to its last minute."""
    lines = {}
    for side, title in NAMES.items():
        rows = [at(curve, minute) for minute in MINUTES] if (curve := curves.get(f"{side}-{seed}")) else []
        if rows:
            lines[title] = [100 * row["accuracy"] for row in rows if row]
    minutes = MINUTES[: max(map(len, lines.values()))]
    return Panel(f"held-out accuracy after minutes, seed {seed}", minutes, lines)


def decisive(recipe: Recipe) -> dict[str, Any]:
    """What decided, of the recipe."""
    sections = {name: getattr(recipe, name).model_dump(mode="json") for name in ("grpo", "policy", "sft")}
    del sections["policy"]["model"]  # a folder of this machine
    return sections


if __name__ == "__main__":
    main()
