"""Planted wrong gold labels: how many does `grandrounds audit` find, and how far up in its queue?

    python benchmarks/label_audit.py recorded --run runs/demo/reasoning
    python benchmarks/label_audit.py trained --out runs/label-audit
    python benchmarks/label_audit.py trained --cold runs/demo/reasoning      a clinic run whose cold start to take

`recorded` takes the rollouts of a finished run on the clinic, gives one in twenty of its cases another of their options
as the gold answer, and audits them again, for fifty draws of wrong labels. The policy was never rewarded for these.
Writes benchmarks/results/label-audit.json.

`trained` gives one in twenty of new vignettes a wrong gold answer, trains on them by GRPO, each asked twice, and audits
the run: the policy is rewarded for the wrong answers too. The same command goes on with an interrupted run. Writes
benchmarks/results/label-audit-trained.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import RESULTS, record
from grandrounds import load_recipe, resume, train
from grandrounds.cases.load import load_cases
from grandrounds.cli.train import quiet_libraries
from grandrounds.evaluation.suspects import Suspect, suspects
from grandrounds.recipe_file import with_overrides
from grandrounds.rewards.matching import judge
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import PlainProgress
from grandrounds.training.trace import read_trace
from grandrounds.types import Case, CaseBook

CASES, SHARE, PASSES = 320, 0.05, 2
PER_ROUND = 32
ROUNDS = CASES * PASSES // PER_ROUND
DRAWS = 50
SEED = 7  # of the vignettes: others than those of the cold start
RANKS = (4, 8, 16, 32)
COLUMNS = ("the queue", "cases", "wrong labels among them", "precision", "recall")


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("piece", choices=("recorded", "trained"))
    parser.add_argument("--run", type=Path, help="for `recorded`: a finished run on the clinic")
    parser.add_argument("--out", type=Path, default=Path("runs/label-audit"))
    parser.add_argument(
        "--cold", type=Path, help="for `trained`: a clinic run; default: a cold start is made"
    )
    arguments = parser.parse_args()
    quiet_libraries()
    {"recorded": recorded, "trained": trained}[arguments.piece](arguments)


def recorded(arguments: argparse.Namespace) -> None:
    """Wrong labels in the record of a run that never saw them."""
    folder = RunFolder.open(arguments.run)
    recipe = folder.recipe()
    cases = {case.id: case for case in load_cases(recipe.cases, seed=recipe.seed).train}
    rows = read_trace(folder.path).to_pylist()
    last = max(row["round"] for row in rows)
    made = []
    for rounds in dict.fromkeys((last, last // 2, last // 4)):
        newest = [row for row in rows if row["round"] > last - rounds]
        made.append(over_draws(f"the last {rounds} rounds", newest, cases))
        print(*made[-1], sep="  ", flush=True)
    accuracy = [row["accuracy"] for row in folder.metrics()]
    note = (
        f"A run of {last} rounds, accuracy {accuracy[0]:.0%} in the first and {accuracy[-1]:.0%} in the last. Wrong "
        f"labels were put into its record, {SHARE:.0%} of the cases asked: the policy was not rewarded for them. "
        f"Means of {DRAWS} draws of wrong labels, with their standard deviation. Random cases would have a precision "
        f"of {SHARE:.0%}. Each case was asked once: within such a queue the order says nothing."
    )
    columns = ("groups", "wrong labels", "in the queue", "precision", "recall")
    record(RESULTS / "label-audit.json", columns, made, note)


def over_draws(name: str, rows: Sequence[dict[str, Any]], cases: Mapping[str, Case]) -> list[str]:
    """A row: the queue's size, precision and recall over draws of wrong labels."""
    asked = sorted({row["case_id"] for row in rows})
    count = round(SHARE * len(asked))
    found = []
    for draw in range(DRAWS):
        random = np.random.Generator(np.random.Philox(key=draw))
        wrong = {
            asked[i]: flipped(cases[asked[i]], random)
            for i in random.choice(len(asked), count, replace=False)
        }
        queue = suspects(
            [relabelled(row, wrong[row["case_id"]]) if row["case_id"] in wrong else row for row in rows]
        )
        right = sum(one.case_id in wrong for one in queue)
        found.append((len(queue), right / max(1, len(queue)), right / count))
    sizes, precision, recall = np.array(found).T
    return [
        f"{name}, {len(asked)} cases",
        str(count),
        f"{sizes.mean():.0f}",
        f"{precision.mean():.0%} ± {precision.std(ddof=1):.0%}",
        f"{recall.mean():.0%} ± {recall.std(ddof=1):.0%}",
    ]


def relabelled(row: dict[str, Any], case: Case) -> dict[str, Any]:
    """A completion's row of the trace, judged by the case's new gold answer."""
    return {**row, "gold": case.gold.text, "correct": judge(row["answer"], case).correct}


def trained(arguments: argparse.Namespace) -> None:
    """Wrong labels that a run is trained on."""
    book, wrong = planted()
    folder = run_on(book, arguments.out, arguments.cold or cold_start(arguments.out / "cold"))
    accuracy = [row["accuracy"] for row in RunFolder.open(folder).metrics()]
    if len(accuracy) < ROUNDS:
        raise SystemExit("The run was interrupted: the same command goes on with it.")
    rows = table(read_trace(folder).to_pylist(), wrong)
    for row in rows:
        print(*row, sep="  ")
    note = (
        f"{CASES} training cases of which {len(wrong)} have a wrong gold answer; {len(accuracy)} rounds of {PER_ROUND} "
        f"groups of 8, so each case is asked {PASSES} times. Accuracy by these labels: {np.mean(accuracy[:5]):.0%} in "
        f"the first five rounds, {np.mean(accuracy[-5:]):.0%} in the last five. A random order of the cases would have "
        f"a precision of {len(wrong) / CASES:.0%} at every rank. One run."
    )
    record(RESULTS / "label-audit-trained.json", COLUMNS, rows, note, wrong=sorted(wrong), accuracy=accuracy)


def planted() -> tuple[CaseBook, frozenset[str]]:
    """New vignettes, and which of them have a wrong gold answer."""
    recipe = load_recipe("clinic", [f"cases.clinic_train={CASES}", "cases.clinic_test=10"])
    book = load_cases(recipe.cases, seed=SEED)
    random = np.random.Generator(np.random.Philox(key=SEED))
    chosen = set(random.choice(CASES, round(SHARE * CASES), replace=False).tolist())
    cases = [flipped(case, random) if i in chosen else case for i, case in enumerate(book.train)]
    return replace(book, train=cases), frozenset(book.train[i].id for i in chosen)


def flipped(case: Case, random: np.random.Generator) -> Case:
    """The case with another of its options as the gold answer."""
    letter = str(random.choice([letter for letter in case.options if letter != case.gold.letter]))
    return replace(case, gold=replace(case.gold, text=case.options[letter], letter=letter))


def cold_start(folder: Path) -> Path:
    """The clinic's warm-up alone, on right labels; made on first use."""
    if not (folder / "checkpoints" / COLD_START).exists():
        if folder.exists():
            resume(folder)
        else:
            train(load_recipe("clinic", ["rounds=0", "sft.steps=800", "cases.clinic_test=10"]), folder)
    return folder


def run_on(book: CaseBook, out: Path, cold: Path) -> Path:
    """The run's folder, when all its rounds are done."""
    folder = out / "run"
    if folder.exists():
        resume(folder, cases=book, progress=PlainProgress())
        return folder
    recipe = with_overrides(
        load_recipe("clinic"),
        [
            f"policy.model={(cold / 'checkpoints' / COLD_START).resolve()}",
            "policy.adapter=full",
            "sft.steps=0",
            f"rounds={ROUNDS}",
            f"grpo.cases_per_round={PER_ROUND}",
            "checkpoint.every=5",
            "evaluation.every=0",
            "guard.enabled=false",
        ],
    )
    train(recipe, folder, cases=book, progress=PlainProgress())
    return folder


def table(rows: Sequence[dict[str, Any]], wrong: frozenset[str]) -> list[list[str]]:
    """Precision and recall by rank after all rounds, and of the whole queue after each pass over the cases."""
    found = suspects(rows)
    made = [row_of(f"first {rank}", found[:rank], wrong) for rank in RANKS if rank < len(found)]
    per_pass = CASES // PER_ROUND
    for number in range(1, PASSES + 1):
        known = suspects(row for row in rows if row["round"] <= number * per_pass)
        made.append(
            row_of(
                f"all, each case asked {number} times" if number > 1 else "all, each case asked once",
                known,
                wrong,
            )
        )
    return made


def row_of(name: str, queue: Sequence[Suspect], wrong: frozenset[str]) -> list[str]:
    right = sum(one.case_id in wrong for one in queue)
    precision = f"{right / len(queue):.0%}" if queue else "none"
    return [name, str(len(queue)), str(right), precision, f"{right / len(wrong):.0%}"]


if __name__ == "__main__":
    main()
