"""The command `demo`: trains a regular and a reasoning model on the embedded clinic, and compares them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.cli.train import quiet_libraries
from grandrounds.recipe_file import load_recipe

if TYPE_CHECKING:
    from rich.console import Console

    from grandrounds.evaluation import Comparison
    from grandrounds.training.target import Target

# A model from scratch learns nothing from a system message that never changes, and it is a sixth of the tokens.
SHORT = ("prompt.system=''",)
# The regular model learns only the answer, a far shorter text. With more steps it would memorise the training cases.
REGULAR = ("rounds=0", "sft.reasoning=false", "sft.steps=400", "name=regular", *SHORT)
# Half of the clinic recipe's warm-up and two thirds of its rounds: minutes instead of half an hour on a laptop.
REASONING = ("sft.steps=800", "rounds=30", *SHORT)
NAMES = ("regular", "cold start", "GRPO")
CASES = 600
HELD_OUT_CASES = 150


def run_demo(out: Path, seed: int) -> None:
    """Train both models, compare them and the cold start, print tables and one case, and write the page."""
    quiet_libraries()
    from rich.console import Console

    from grandrounds.domains.clinic import NOTICE
    from grandrounds.report.side_by_side import print_example
    from grandrounds.report.tables import print_comparison

    started = time.monotonic()
    console = Console(highlight=False)
    out = _free(out)
    console.print(f"Grand Rounds demo, in {out}. {NOTICE}")
    targets = _trained(console, out, seed)
    comparison = _compared(targets, "clinic", CASES)
    print_comparison(console, comparison, notice=NOTICE)
    for example in comparison.examples()[:1]:
        print_example(console, comparison, example)
    held_out = _held_out(console, targets)
    page = _written(out, comparison, held_out)
    console.print(f"\nTook {(time.monotonic() - started) / 60:.1f} minutes. Page: {page}", soft_wrap=True)


def _free(out: Path) -> Path:
    """The folder, with a number if it exists already."""
    folder, number = out, 1
    while folder.exists():
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    return folder


def _trained(console: Console, out: Path, seed: int) -> list[Target]:
    from grandrounds.cli.progress import run_progress
    from grandrounds.training.run import train
    from grandrounds.training.target import open_target

    regular = load_recipe("clinic", [f"seed={seed}", *REGULAR])
    reasoning = load_recipe("clinic", [f"seed={seed}", *REASONING])
    console.print("\n1  Regular model: SFT on the answers alone", style="bold")
    _whole(train(regular, out / "regular", progress=run_progress(console)).finished)
    console.print("\n2  Reasoning model: SFT on mediocre reasoning (cold start), then GRPO", style="bold")
    _whole(train(reasoning, out / "reasoning", progress=run_progress(console)).finished)
    places = (out / "regular", out / "reasoning" / "checkpoints" / "000000", out / "reasoning")
    return [open_target(f"{name}={place}") for name, place in zip(NAMES, places, strict=True)]


def _whole(finished: bool) -> None:
    if not finished:
        sys.exit(130)


def _compared(targets: list[Target], source: str, limit: int) -> Comparison:
    from grandrounds.api import EvaluationRequest, compare_targets
    from grandrounds.cli.progress import counted

    with counted("evaluated") as progress:
        return compare_targets(targets, EvaluationRequest(source, limit=limit), progress)


def _held_out(console: Console, targets: list[Target]) -> dict[str, Comparison]:
    """The comparison on each held-out set, printed in one row each."""
    from rich.table import Table

    from grandrounds.domains.clinic.book import HELD_OUT
    from grandrounds.report.words import percent, percents

    table = Table(title=f"Held-out sets, {HELD_OUT_CASES} cases each", title_justify="left", box=None)
    table.add_column("")
    for name in NAMES:
        table.add_column(name, justify="right")
    comparisons = {}
    for name in HELD_OUT:
        comparisons[name] = _compared(targets, f"clinic:{name}", HELD_OUT_CASES)
        shares = [evaluation.accuracy for evaluation in comparisons[name].evaluations.values()]
        table.add_row(name, *(f"{percent(share.value)}\n{percents(share.interval)}" for share in shares))
    console.print(table)
    return comparisons


def _written(out: Path, comparison: Comparison, held_out: dict[str, Comparison]) -> Path:
    from grandrounds.cli.evaluate import write_json
    from grandrounds.domains.clinic import NOTICE
    from grandrounds.report.page import write_page
    from grandrounds.training.folder import RunFolder

    rows = {name: other.to_json() for name, other in held_out.items()}
    write_json(out / "demo.json", {**comparison.to_json(), "held_out": rows})
    page = out / "demo.html"
    run = RunFolder.open(out / "reasoning")
    # The evaluation before the first round has no row among the rounds'.
    start = [
        {"round": 0, "held_out/accuracy": row["accuracy"]} for row in run.evaluations() if row["round"] == 0
    ]
    metrics = [*start, *run.metrics()]
    write_page(
        page, comparison, cases="new clinic vignettes", notice=NOTICE, metrics=metrics, further=held_out
    )
    return page
