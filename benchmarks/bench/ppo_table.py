"""Tables and chart of GRPO beside PPO, from what the arms kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.chart import Panel, svg
from bench.passes import Passes
from bench.record import RESULTS, ROOT, record

NAMES = {"grpo": "GRPO", "ppo": "PPO", "ppo-groups": "PPO groups"}
LEVELS = (0.8, 0.9)
MB = 2**20
# Columns of a round's table: tokens by network and pass, processor seconds by phase.
TOKENS = (("sampling", "forward"), ("policy", "forward"), ("critic", "forward"), ("critic", "backward"))
PHASES = ("sampling", "values", "policy", "critic")
# What a round costs, as a running total: rounds, operations, processor seconds.
Cost = Callable[[Mapping[str, Any]], float]
Result = dict[str, Any]


def tables(out: Path) -> None:
    """What each arm costs and reaches, what a round of it costs, what was tried for PPO, and the chart."""
    found = [
        json.loads(file.read_text(encoding="utf-8")) | {"file": file.stem}
        for file in sorted(out.glob("*.json"))
    ]
    arms = {arm: [one for one in found if one["file"] == f"{arm}-{one['seed']}"] for arm in NAMES}
    arms = {arm: results for arm, results in arms.items() if results}
    trials = [one for one in found if one["file"].startswith("try-")]
    some = next(iter(arms.values()))[0]
    about = (
        f"{len(some['rows'])} rounds of {some['completions']} completions; {_seeds(arms)}; one thread. Operations: a "
        "token's forward pass through the network is 1, its backward pass 2; sampling counts."
    )
    how = f"{some['held_out']} held-out cases, greedy. To a level: up to the first evaluation that shows it."
    record(RESULTS / "ppo.json", *reached(arms), f"{about} {how}", arms=arms)
    record(RESULTS / "ppo-round.json", *per_round(arms), f"Means over rounds and seeds: {about}")
    if trials:
        note = f"Seed {trials[0]['seed']} alone, one completion of each prompt."
        record(RESULTS / "ppo-tuning.json", *tried(trials), note, trials=trials)
    (ROOT / "docs/ppo.svg").write_text(chart(arms), encoding="utf-8")


def operations(row: Mapping[str, Any]) -> float:
    """Of a round, in thousand forward passes of a token."""
    return sum(Passes(**passes).operations for passes in row["passes"].values()) / 1000


def seconds(row: Mapping[str, Any]) -> float:
    """Of a round, on the processor."""
    return sum(row["seconds"].values())


def spent(result: Result, cost: Cost) -> np.ndarray:
    """The cost [evaluations] up to each evaluation."""
    total = np.concatenate([[0.0], np.cumsum([cost(row) for row in result["rows"]])])
    return total[[point["round"] for point in result["curve"]]]


def cost_to(result: Result, level: float, cost: Cost) -> float | None:
    """What was spent at the first evaluation that shows this held-out accuracy; None where none does."""
    for costs, point in zip(spent(result, cost), result["curve"], strict=True):
        if point["accuracy"] >= level:
            return float(costs)
    return None


def reached(arms: Mapping[str, Sequence[Result]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: accuracy, cost to each level, reward."""
    costs: dict[str, Cost] = {
        "rounds": lambda row: 1.0,
        "operations, thousand": operations,
        "processor s": seconds,
    }
    columns = ["arm", "held-out accuracy, start", "end"]
    columns += [f"{name} to {100 * level:.0f} %" for level in LEVELS for name in costs]
    columns.append("reward of the last two rounds")
    rows = []
    for arm, results in arms.items():
        row = [NAMES[arm]]
        row += [
            " / ".join(f"{100 * one['curve'][place]['accuracy']:.1f} %" for one in results)
            for place in (0, -1)
        ]
        row += [
            " / ".join(_figure(cost_to(one, level, cost)) for one in results)
            for level in LEVELS
            for cost in costs.values()
        ]
        row.append(" / ".join(f"{np.mean([r['reward'] for r in one['rows'][-2:]]):.2f}" for one in results))
        rows.append(row)
    return columns, rows


def per_round(arms: Mapping[str, Sequence[Result]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a round: tokens through the networks, processor seconds by phase, memory."""
    columns = [
        "arm",
        "tokens sampled with prompts",
        "policy, forward and backward",
        "critic, forward",
        "backward",
    ]
    columns += [
        "operations, thousand",
        "of GRPO's",
        "sampling, s",
        "values, s",
        "policy, s",
        "critic, s",
        "all, s",
        "of GRPO's",
        "peak memory, MB",
        "of it weights, gradients, optimizer",
    ]
    rows: list[list[str]] = []
    least: dict[str, float] = {}
    for arm, results in arms.items():
        every = [row for one in results for row in one["rows"]]
        tokens = [
            float(np.mean([row["passes"].get(what, {}).get(way, 0) for row in every])) for what, way in TOKENS
        ]
        parts = [float(np.mean([row["seconds"].get(what, 0.0) for row in every])) for what in PHASES]
        totals = {
            "operations": float(np.mean([operations(row) for row in every])),
            "seconds": float(np.mean([seconds(row) for row in every])),
        }
        least = least or totals
        rows.append(
            [
                NAMES[arm],
                *(f"{value:,.0f}" for value in tokens),
                f"{totals['operations']:.1f}",
                f"{totals['operations'] / least['operations']:.2f} ×",
                *(f"{value:.2f}" for value in parts),
                f"{totals['seconds']:.2f}",
                f"{totals['seconds'] / least['seconds']:.2f} ×",
                f"{max(row['peak_bytes'] for row in every) / MB:.0f}",
                f"{np.mean([2 * one['bytes']['weights'] + one['bytes']['optimizer'] for one in results]) / MB:.1f}",
            ]
        )
    return columns, rows


def tried(trials: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: PPO's settings that were tried, and the curve of each."""
    rounds = [point["round"] for point in trials[0]["curve"]]
    columns = ["λ", "critic's rate", "its steps a round", "its warm-up rounds"]
    columns += [f"accuracy after {number}" for number in rounds] + [
        "variance of returns explained, last round"
    ]
    rows = []
    for one in trials:
        how = one["settings"]
        rows.append(
            [f"{how['lam']:g}", f"{how['learning_rate']:g}", str(how["steps"]), str(how["warmup_rounds"])]
            + [f"{100 * point['accuracy']:.1f} %" for point in one["curve"]]
            + [f"{one['rows'][-1]['explained']:.2f}"]
        )
    return columns, rows


def chart(arms: Mapping[str, Sequence[Result]]) -> str:
    """Held-out accuracy, in per cent, over rounds and over processor seconds: means over seeds."""
    panels = []
    for title, cost in (
        ("held-out accuracy over rounds", lambda row: 1.0),
        ("… over processor seconds", seconds),
    ):
        curves = {
            arm: [(spent(one, cost), [100 * point["accuracy"] for point in one["curve"]]) for one in results]
            for arm, results in arms.items()
        }
        end = min(costs[-1] for results in curves.values() for costs, _ in results)
        grid = [round(x, 1) for x in np.linspace(0, end, 7)]
        lines = {
            NAMES[arm]: [float(np.mean([np.interp(x, *curve) for curve in results])) for x in grid]
            for arm, results in curves.items()
        }
        panels.append(Panel(title, grid, lines))
    return svg(panels, "%")


def _seeds(arms: Mapping[str, Sequence[Result]]) -> str:
    seeds = sorted({one["seed"] for results in arms.values() for one in results})
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _figure(value: float | None) -> str:
    return "never" if value is None else f"{value:.3g}"
