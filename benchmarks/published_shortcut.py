"""Why a language model's held-out accuracy may fall while it trains on published case reports, by experiment.

    python benchmarks/published_shortcut.py hardest --cases phenopackets.jsonl.gz --model FOLDER
    python benchmarks/published_shortcut.py balanced --cases …      the same cases, drawn so that frequency pays nothing
    python benchmarks/published_shortcut.py matched --cases …       wrong options as frequent as right ones
    python benchmarks/published_shortcut.py gentle --cases …        as matched, with a third of the learning rate
    python benchmarks/published_shortcut.py --cases …               writes benchmarks/results/published-shortcut.json

Each arm is a run of its own with LoRA, in runs/published-shortcut/ARM; the same command goes on with one that stopped.
The table keeps the rows of arms whose runs are not here. Cases are short (ten findings at most), and so are the
demonstrations, whose answers come from two findings alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from bench.record import RESULTS, record
from grandrounds import resume, train
from grandrounds.cases.load import load_cases
from grandrounds.cases.shortcuts import LabelFrequency
from grandrounds.domains.medicine import phenopackets
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import PlainProgress
from grandrounds.types import Case, CaseBook, Demonstration

ARMS = ("hardest", "balanced", "matched", "gentle")
FINDINGS, TELLING = 10, 2
SYSTEM = (
    "Name the telling findings, then the diagnosis that fits: "
    "<reasoning>Telling: …. Fits: ….</reasoning><answer>letter</answer>"
)
COLUMNS = (
    "arm",
    "label frequency alone: training, the held-out sample",
    "training accuracy, first 10 rounds, last 10",
    "answers that are the most frequent option's, first 10 rounds, last 10",
    "held-out accuracy, start, best, end",
    "warned after round",
)

NOTE = (
    "150 held-out cases of publications that were not trained on, chance 25 %; one run each, one thread, bfloat16. "
    "Label frequency: by count, each training case left out of the counts that answer it."
)


class Warned(PlainProgress):
    """Prints lines, and keeps the first warning's round in a file, so that a resumed run still knows it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file, self._done = file, 0

    def round(self, done: int, rounds: int, row: Any) -> None:
        self._done = done
        super().round(done, rounds, row)

    def note(self, text: str) -> None:
        if text.startswith("Warning") and not self._file.exists():
            self._file.write_text(json.dumps({"round": self._done, "text": text}), encoding="utf-8")
        super().note(text)


def book_of(arm: str, source: str) -> CaseBook:
    """The published cases, shortened; split by publication."""
    matched = phenopackets._matched
    if arm not in ("matched", "gentle"):
        phenopackets._matched = lambda *unused: {}  # as the reader was before it matched frequencies
    try:
        cases = recipe_from(
            {"cases": {"source": source, "format": "phenopackets", "test_fraction": 0.3}}
        ).cases
        book = load_cases(cases, seed=0)
    finally:
        phenopackets._matched = matched
    return CaseBook(train=[_short(case) for case in book.train], test=[_short(case) for case in book.test])


def _short(case: Case) -> Case:
    shown = case.facts[:FINDINGS]
    patient = str(case.question).split("Findings:")[0]
    question = f"{patient}Findings: {'; '.join(shown)}. Which diagnosis fits best?"
    if case.demonstration is None:
        return replace(case, question=question)
    answer = case.demonstration.answer
    reasoning = f"Telling: {', '.join(shown[:TELLING])}. Fits: {answer}."
    return replace(case, question=question, demonstration=Demonstration(reasoning, answer))


def recipe(arm: str, model: str, rounds: int) -> Recipe:
    """LoRA on short prompts and answers."""
    return recipe_from(
        {
            "name": f"published-{arm}",
            "rounds": rounds,
            "prompt": {"system": SYSTEM},
            "cases": {"balance": "label" if arm == "balanced" else "none", "too_long": "skip"},
            "policy": {"model": model, "adapter": "lora", "lora_rank": 16, "lora_alpha": 32},
            "sft": {"steps": 30, "batch_cases": 8, "learning_rate": 1e-3, "too_long": "skip"},
            "grpo": {
                "cases_per_round": 6,
                "group_size": 8,
                "max_new_tokens": 64,
                "learning_rate": 1e-4 if arm == "gentle" else 3e-4,
            },
            "rewards": {"accuracy": {"weight": 1.0}, "format": {"weight": 0.2}},
            "checkpoint": {"every": 5, "keep": 1},
            "evaluation": {"every": 5, "cases": 150},
            "guard": {"patience": 1000},
        }
    )


def arm_row(out: Path, arm: str, source: str) -> list[str]:
    """One run's figures."""
    book, folder = book_of(arm, source), RunFolder.open(out / arm)
    fitted = LabelFrequency.fit(book.train, "count")
    sample = [case for case in book.test if case.id in folder.evaluations()[0]["right"]]
    trained = [row["accuracy"] for row in folder.metrics()]
    held = folder.evaluations()
    accuracy = [row["accuracy"] for row in held]
    warned = out / f"{arm}-warned.json"
    return [
        arm,
        f"{fitted.accuracy(book.train, own=True):.0%}, {fitted.accuracy(sample):.0%}",
        f"{np.mean(trained[:10]):.0%}, {np.mean(trained[-10:]):.0%} ({len(trained)} rounds)",
        f"{agreement(folder, book, fitted, range(1, 11)):.0%}, "
        f"{agreement(folder, book, fitted, range(len(trained) - 9, len(trained) + 1)):.0%}",
        f"{accuracy[0]:.0%}, {max(accuracy):.0%}, {accuracy[-1]:.0%}",
        str(json.loads(warned.read_text())["round"]) if warned.exists() else "never",
    ]


def agreement(folder: RunFolder, book: CaseBook, fitted: LabelFrequency, rounds: range) -> float:
    """How many of these rounds' answers are the option that is most often right in the training cases."""
    cases = {case.id: case for case in book.train}
    same = []
    for number in rounds:
        for row in parquet.read_table(folder.path / f"rollouts/{number:06d}.parquet").to_pylist():
            if row["answer"]:
                case = cases[row["case_id"]]
                frequent = case.options[fitted.choose(case, own=True)]
                same.append(frequent.lower() in row["answer"].lower())
    return float(np.mean(same))


def main() -> None:
    """Train or go on with one arm, or write the table of those there are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arm", nargs="?", choices=ARMS)
    parser.add_argument("--cases", required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/published-shortcut"))
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.arm:
        book, progress = book_of(arguments.arm, arguments.cases), Warned(out / f"{arguments.arm}-warned.json")
        if (out / arguments.arm).exists():
            resume(out / arguments.arm, cases=book, progress=progress)
        else:
            wanted = recipe(arguments.arm, arguments.model, arguments.rounds)
            train(wanted, out / arguments.arm, cases=book, progress=progress)
        return
    file = RESULTS / "published-shortcut.json"
    rows = {row[0]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}  # of runs not here
    for arm in ARMS:
        if (out / arm / "metrics.jsonl").exists():
            rows[arm] = arm_row(out, arm, arguments.cases)
    record(file, COLUMNS, [rows[arm] for arm in ARMS if arm in rows], NOTE)


if __name__ == "__main__":
    main()
