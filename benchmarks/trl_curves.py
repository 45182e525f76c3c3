"""The same script for TRL under TRL and with its import changed, each with its own sampling: do rewards rise alike?

    python benchmarks/trl_curves.py data clinic --run runs/clinic          a run whose cold start to take
    python benchmarks/trl_curves.py data smollm2 --run runs/laptop --model MERGED
    python benchmarks/trl_curves.py data gsm8k --model FOLDER              medical, too
    python benchmarks/trl_curves.py ours clinic --seed 0
    python benchmarks/trl_curves.py trl clinic --seed 0 --peers-venv .venv-peers
    python benchmarks/trl_curves.py table

Everything lies in runs/trl-curves; each command does one piece, and one that is done is not done again. `table` writes
benchmarks/results/trl-curves.json and docs/trl-curves.svg. The script is benchmarks/bench/curve_script.py; gsm8k
and medical are those of tests/trl_scripts, with their own few cases and rewards.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.chart import Panel, svg
from bench.record import RESULTS, ROOT, record

SIDES = ("trl", "ours")
# Before and behind a tutorial's script.
CLOCK = """
import json
from pathlib import Path
from bench.curve_clock import Clock

clock = Clock()
"""
KEPT = """
rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
"""
SCRIPT = ROOT / "benchmarks/bench/curve_script.py"
# Shaped after tutorials. What changes their sizes, for both sides.
TUTORIALS = ROOT / "tests/trl_scripts"
# What is trained. tokens: the longest completion. cases: prompts in the data.
MODELS: dict[str, dict[str, Any]] = {
    "clinic": {
        "steps": 12,
        "group": 8,
        "prompts": 6,
        "tokens": 160,
        "learning_rate": 3e-4,
        "lora": False,
        "cases": 256,
    },
    "smollm2": {
        "steps": 8,
        "group": 4,
        "prompts": 2,
        "tokens": 48,
        "learning_rate": 1e-4,
        "lora": True,
        "cases": 64,
    },
    **{name: {"steps": 8, "tokens": 48} for name in ("gsm8k", "medical")},
}
NAMES = {
    "clinic": "clinic's own, 1.4M weights, all trained",
    "smollm2": "SmolLM2-135M, LoRA",
    "gsm8k": "SmolLM2-135M, all weights; `gsm8k`",
    "medical": "SmolLM2-135M, all weights; `medical`",
}
COLUMNS = (
    "model",
    "seeds × steps",
    "reward, first and last quarter: TRL",
    "ours",
    "ours − TRL, all steps",
    "wall seconds a step: TRL",
    "ours",
    "processor seconds a step: TRL",
    "ours",
)


def main() -> None:
    """One piece of the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("piece", choices=("data", *SIDES, "table"))
    parser.add_argument("what", choices=tuple(MODELS), nargs="?", default="clinic")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/trl-curves")
    parser.add_argument("--run", type=Path, help="for `data`: the run whose cases are asked, as it asks them")
    parser.add_argument(
        "--model", type=Path, help="for `data`: a model's folder; default: the run's cold start"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers-venv", type=Path, default=ROOT / ".venv-peers")
    arguments = parser.parse_args()
    if arguments.piece == "data":
        data(arguments)
    elif arguments.piece == "table":
        table(arguments.out)
    else:
        side(arguments)


def data(arguments: argparse.Namespace) -> None:
    """Prompts as messages with their gold answers, and the weights that both sides begin with."""
    from grandrounds.cases.ask import ask
    from grandrounds.cases.load import load_cases
    from grandrounds.training.checkpoint import COLD_START
    from grandrounds.training.folder import RunFolder

    folder = arguments.out / arguments.what
    folder.mkdir(parents=True, exist_ok=True)
    if (TUTORIALS / f"{arguments.what}.py").exists():
        (folder / "model").symlink_to(arguments.model.resolve())
        return
    recipe = RunFolder.open(arguments.run).recipe()
    cases = load_cases(recipe.cases, seed=recipe.seed).train[: MODELS[arguments.what]["cases"]]
    rows = [
        {"prompt": [vars(one) for one in ask(case, recipe.prompt)], "gold": case.gold.text} for case in cases
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = arguments.model or arguments.run / "checkpoints" / COLD_START
    (folder / "model").symlink_to(model.resolve())


def side(arguments: argparse.Namespace) -> None:
    """One run of the script by one side, in a process of its own; nothing where its result is there."""
    folder = arguments.out.resolve() / arguments.what
    name = f"{arguments.piece}-{arguments.seed}"
    result = folder / f"{name}.json"
    if result.exists():
        return
    job = {
        **MODELS[arguments.what],
        "model": str(folder / "model"),
        "data": str(folder / "data.jsonl"),
        "output": unused(folder / name),
        "seed": arguments.seed,
        "result": str(result),
    }
    (folder / f"{name}.job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")
    script = folder / f"{name}.py"
    script.write_text(_script(arguments.what, job, ours=arguments.piece == "ours"), encoding="utf-8")
    python = sys.executable if arguments.piece == "ours" else arguments.peers_venv / "bin/python"
    subprocess.run(
        [python, script, folder / f"{name}.job.json"],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'benchmarks'}"},
        check=True,
    )
    if len(json.loads(result.read_text(encoding="utf-8"))["rewards"]) < job["steps"]:
        result.unlink()
        raise SystemExit(f"{name} was interrupted: the same command begins it anew.")


def _script(what: str, job: dict[str, Any], *, ours: bool) -> str:
    """The script for one side."""
    tutorial = TUTORIALS / f"{what}.py"
    text = (tutorial if tutorial.exists() else SCRIPT).read_text(encoding="utf-8")
    if tutorial.exists():
        text = _resized(text, job)
    return text.replace("from trl import", "from grandrounds.trl import") if ours else text


def _resized(text: str, job: dict[str, Any]) -> str:
    """A tutorial's script with as many steps and tokens, one more seed, and an end that keeps its rewards."""
    text = re.sub(r"max_completion_length=\d+", f"max_completion_length={job['tokens']}", text)
    text = re.sub(r"(max_steps|num_train_epochs)=\d+", f"max_steps={job['steps']}", text)
    text = re.sub(r"logging_steps=\d+", "logging_steps=1", text)
    text = text.replace("output_dir=output_dir,", f"output_dir=output_dir, seed={job['seed']},", 1)
    begin = f"import sys\nsys.argv[1:] = [{job['model']!r}, {job['output']!r}]\n" + CLOCK
    end = f"Path({job['result']!r}).write_text(json.dumps({{'rewards': rewards, 'ends': clock.ends}}))\n"
    return f"{begin}{text.replace('.train()', '.add_callback(clock) or trainer.train()', 1)}\n{KEPT}{end}"


def unused(folder: Path) -> str:
    """A folder that an interrupted run has not left behind."""
    number, name = 1, folder
    while name.exists():
        number += 1
        name = folder.with_name(f"{folder.name}-{number}")
    return str(name)


def table(out: Path) -> None:
    """A row and a panel for each model whose pieces are done, over the seeds that both sides have."""
    rows, panels, measured = [], [], {}
    for what in MODELS:
        seeds = [s for s in range(100) if all((out / what / f"{one}-{s}.json").exists() for one in SIDES)]
        if not seeds:
            continue
        runs = {
            one: [json.loads((out / what / f"{one}-{seed}.json").read_text()) for seed in seeds]
            for one in SIDES
        }
        rows.append(row_of(what, runs))
        curves = {one: np.mean([run["rewards"] for run in runs[one]], axis=0) for one in SIDES}
        panels.append(
            Panel(
                f"{what}: reward by step",
                range(1, MODELS[what]["steps"] + 1),
                {"TRL": curves["trl"].tolist(), "ours": curves["ours"].tolist()},
            )
        )
        measured[what] = {"settings": MODELS[what], "seeds": seeds, "runs": runs}
        print(*rows[-1], sep="  ")
    note = (
        "TRL 1.16.0 in float32 (`medical`: bfloat16), one script, the import alone changed; each side samples by "
        "itself. Rewards: 1 for the right answer, 0.2 for the form; of `gsm8k` and `medical`, their own. The "
        "difference is the mean over seeds with its standard error over seeds. Seconds are medians over steps without "
        "the first, of one thread on a core that other programs used too: compare the processor seconds, which do not "
        "count those programs."
    )
    record(RESULTS / "trl-curves.json", COLUMNS, rows, note, measured=measured)
    (ROOT / "docs/trl-curves.svg").write_text(svg(panels, ""), encoding="utf-8")


def row_of(what: str, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    rewards = {one: np.array([run["rewards"] for run in runs[one]]) for one in SIDES}  # [seeds, steps] each
    seeds, steps = rewards["trl"].shape
    quarter = steps // 4
    ends = {
        one: f"{values[:, :quarter].mean():.2f} → {values[:, -quarter:].mean():.2f}"
        for one, values in rewards.items()
    }
    wall, used = (
        {one: median(seconds(runs[one], clock)) for one in SIDES} for clock in ("wall", "processor")
    )
    return [
        NAMES[what],
        f"{seeds} × {steps}",
        ends["trl"],
        ends["ours"],
        difference((rewards["ours"] - rewards["trl"]).mean(1)),
        f"{wall['trl']:.1f}",
        f"{wall['ours']:.1f} ({wall['trl'] / wall['ours']:.1f} times as fast)",
        f"{used['trl']:.1f}",
        f"{used['ours']:.1f} ({used['trl'] / used['ours']:.1f} times as fast)",
    ]


def seconds(runs: list[dict[str, Any]], clock: str) -> list[float]:
    """Seconds of each step but the first, of all runs."""
    return [
        after[clock] - before[clock]
        for run in runs
        for before, after in zip(run["ends"], run["ends"][1:], strict=False)
    ]


def difference(by_seed: np.ndarray) -> str:
    """The mean over seeds [S] with its standard error; without one for a single seed."""
    if len(by_seed) < 2:
        return f"{by_seed.mean():+.3f}, one seed"
    return f"{by_seed.mean():+.3f} ± {by_seed.std(ddof=1) / np.sqrt(len(by_seed)):.3f}"


if __name__ == "__main__":
    main()
