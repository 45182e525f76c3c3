"""A planted shortcut: is it learned, is it warned of, and does `cases.balance: label` close it?

    python benchmarks/shortcut.py --out runs/shortcut

Questions say nothing about their answers. In the training cases some answers are right far more often than others; in
the held-out cases the rare ones are. All are offered alike. A policy can gain on the training cases only by learning
how frequent answers are, and by that it loses on the held-out ones. The warm-up teaches the form, with answers drawn at
random. Writes benchmarks/results/shortcut.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import RESULTS, record
from grandrounds import train
from grandrounds.cases.load import load_cases
from grandrounds.cases.shortcuts import LabelFrequency
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import PlainProgress

NAMES = ("gout", "sepsis", "asthma", "scurvy", "rabies", "mumps", "typhus", "croup")
WORDS = ("tired", "thirsty", "dizzy", "pale", "restless", "sweating", "hoarse", "cold")
SKEW = 0.4  # each name is right so much less often than the one before, as a power of e
TRAIN, HELD_OUT = 600, 200
COLUMNS = ("cases.balance", "training accuracy", "held-out accuracy", "label frequency", "warned after round")


class Warned(PlainProgress):
    """Prints lines, and remembers after which round the first warning came."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.warned = 0, 0

    def round(self, done: int, rounds: int, row: Any) -> None:
        self.number = done
        super().round(done, rounds, row)

    def note(self, text: str) -> None:
        if text.startswith("Warning (not_general)") and not self.warned:
            self.warned = self.number
        super().note(text)


def write(path: Path, count: int, skew: float, seed: int) -> None:
    """Cases whose answers are as frequent as the skew makes them."""
    random = np.random.Generator(np.random.Philox(key=seed))
    chances = np.exp(-skew * np.arange(len(NAMES)))
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            gold = int(random.choice(len(NAMES), p=chances / chances.sum()))
            others = random.permutation([n for n in range(len(NAMES)) if n != gold])[:3]
            options = [NAMES[n] for n in random.permutation([gold, *others])]
            shown = str(random.choice(options))
            row = {
                "id": f"{path.stem}-{number}",
                "question": f"A patient is {' and '.join(random.choice(WORDS, 2, replace=False))}. What is it?",
                "options": options,
                "answer": NAMES[gold],
                "reasoning": f"It may be {shown}.",
                "demonstrated": shown,
            }
            file.write(json.dumps(row) + "\n")


def recipe(folder: Path, balance: str, rounds: int) -> Recipe:
    """A small model from scratch; the warm-up's answers are those of its demonstrations."""
    return recipe_from(
        {
            "name": f"shortcut-{balance}",
            "rounds": rounds,
            "prompt": {"system": ""},
            "cases": {
                "source": str(folder / "train.jsonl"),
                "test_source": str(folder / "held-out.jsonl"),
                "balance": balance,
            },
            "policy": {
                "scratch": {"layers": 2, "hidden": 64, "heads": 4, "feedforward": 192, "vocabulary": 400}
            },
            "sft": {"steps": 200, "learning_rate": 2e-3},
            "grpo": {
                "cases_per_round": 16,
                "group_size": 8,
                "max_new_tokens": 40,
                "learning_rate": 1e-3,
                "iterations": 2,
            },
            "rewards": {"accuracy": {"weight": 1.0}, "format": {"weight": 0.2}},
            "evaluation": {"every": 5, "cases": HELD_OUT},
            "guard": {"patience": 1000},
        }
    )


def demonstrated(path: Path) -> list[Any]:
    """The cases, each with its demonstration's own answer: the warm-up must not teach the right one."""
    from dataclasses import replace

    from grandrounds.recipe import CasesRecipe

    cases = load_cases(CasesRecipe(source=str(path), test_fraction=0), seed=0).train
    return [
        replace(case, demonstration=replace(case.demonstration, answer=case.columns["demonstrated"]))
        for case in cases
        if case.demonstration
    ]


def main() -> None:
    """Train with and without balance; print and write one row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/shortcut"))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(arguments.out / "train.jsonl", TRAIN, SKEW, 1)
    write(arguments.out / "held-out.jsonl", HELD_OUT, -SKEW, 2)
    rows = [row_of(arguments.out, balance, arguments.rounds) for balance in ("none", "label")]
    note = (
        f"{arguments.rounds} rounds of 16 × 8; accuracy before and after, chance is 25 %. "
        "Label frequency: what it scores alone."
    )
    record(RESULTS / "shortcut.json", COLUMNS, rows, note)


def row_of(out: Path, balance: str, rounds: int) -> list[str]:
    """One run's row."""
    from grandrounds.types import CaseBook

    train_cases, test_cases = (demonstrated(out / name) for name in ("train.jsonl", "held-out.jsonl"))
    progress = Warned()
    book = CaseBook(train=train_cases, test=test_cases)
    run = train(recipe(out, balance, rounds), out / balance, cases=book, progress=progress)
    folder = RunFolder.open(run.folder)
    trained = [row["accuracy"] for row in folder.metrics()]
    held = [row["accuracy"] for row in folder.evaluations()]
    fitted = LabelFrequency.fit(train_cases)
    return [
        balance,
        f"{np.mean(trained[:5]):.0%} → {np.mean(trained[-5:]):.0%}",
        f"{held[0]:.0%} → {held[-1]:.0%}",
        f"{fitted.accuracy(train_cases, own=True):.0%}, held-out {fitted.accuracy(test_cases):.0%}",
        str(progress.warned or "never"),
    ]


if __name__ == "__main__":
    main()
