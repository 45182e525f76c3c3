"""Every shipped reward attacked as `grandrounds rewards test` does, on every kind of task.

    python benchmarks/reward_attacks.py --data ../shared/data --out runs/reward-attacks

--data: a folder with published cases; tasks whose files are not there are left out. A task that is done is not tried
again. Writes benchmarks/results/reward-attacks.json; what fails is named there, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.record import RESULTS, ROOT, record
from grandrounds.algorithm.cursor import take
from grandrounds.cases.load import load_cases
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe, recipe_from
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import build_rewards
from grandrounds.rewards.attacks import solution
from grandrounds.rewards.dry_run import dry_run

sys.path.insert(0, str(ROOT / "tests"))
from small_tasks import TASKS

# Task -> (recipe, file of published cases).
PUBLISHED = {
    "MedQA": ("medqa", "medqa_dev.jsonl.gz"),
    "MedMCQA": ("medqa", "medmcqa_dev.jsonl.gz"),
    "PubMedQA": ("pubmedqa", "pubmedqa_train.json.gz"),
    "case reports (phenopackets)": ("phenopackets", "phenopackets.jsonl.gz"),
}
MOST = 20  # cases of a task
COLUMNS = ("task", "rewards", "cases", "ways to respond", "fail", "only noted", "seconds a sample")


def main() -> int:
    """Try what is not done yet, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/reward-attacks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, found = [], {}
    for task, recipe in recipes(arguments).items():
        file = arguments.out / f"{task.replace(' ', '-')}.json"
        if not file.exists():
            file.write_text(json.dumps(tried(recipe)), encoding="utf-8")
        found[task] = json.loads(file.read_text(encoding="utf-8"))
        rows.append(row_of(task, recipe, found[task]))
        print(*rows[-1], sep="  ", flush=True)
    note = (
        f"At most {MOST} cases a task. A way to respond fails where it earns more than a quarter of what being right "
        "is worth; it is only noted where it shows that reasonings or length are not looked at. Numbers, mathematics, "
        "law, finance and code are small tasks of our own, tests/small_tasks.py. Seconds: the median, on a processor "
        "that other programs may use too."
    )
    record(RESULTS / "reward-attacks.json", COLUMNS, rows, note, found=found)
    return int(any(not one["passed"] for one in found.values()))


def recipes(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """The tasks that can be tried here."""
    made = {"the clinic": load_recipe("clinic", ["cases.clinic_train=100", "cases.clinic_test=4"])}
    for task, (name, file) in PUBLISHED.items():
        if (arguments.data / file).exists():
            source = json.dumps(str(arguments.data / file))
            made[task] = load_recipe(name, [f"cases.source={source}", "cases.format=auto"])
    for task, (rewards, rows) in TASKS.items():
        source = arguments.out / f"{task.replace(' ', '-')}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        cases = {"source": str(source), "test_fraction": 0}
        made[task] = recipe_from({"cases": cases, "rewards": rewards})
    return made


def tried(recipe: Recipe) -> dict[str, Any]:
    """The dry run's result, on cases drawn from the recipe's."""
    book = load_cases(recipe.cases, seed=recipe.seed)
    order = take(len(book.train), 0, len(book.train), recipe.seed)
    cases = [case for i in order[: 5 * MOST] if solution(case := book.train[i]) is not None][:MOST]
    rewards = build_rewards(recipe.rewards, knowledge=book.knowledge)
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    return dry_run(rewards, cases, grammar, recipe.grpo.max_new_tokens).to_json()


def row_of(task: str, recipe: Recipe, result: dict[str, Any]) -> Sequence[str]:
    """The task's row of the table."""
    failing = [*result["findings"], *(row["name"] for row in result["rows"] if row["fails"])]
    noted = [row["name"] for row in result["rows"] if row["verdict"] and not row["fails"]]
    used = dict.fromkeys(spec.use or name for name, spec in recipe.rewards.items())
    return (
        task,
        ", ".join(f"`{name}`" for name in used),
        str(result["rows"][0]["cases"]),
        str(len(result["rows"])),
        "; ".join(failing) or "none",
        str(len(noted)),
        f"{result['seconds']:.2g}",
    )


if __name__ == "__main__":
    sys.exit(main())
