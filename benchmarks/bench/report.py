"""Medians, ratios and shares of what the machine can do, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.alternate import Measured
from bench.floor import Floor, floor


def rows(measured: Measured) -> list[dict[str, Any]]:
    """One row of the table each: what, unit, whether more is better, and its value by side."""
    least = floor(measured.workload)
    matmul, copy = (median(result[rate] for result in measured.machine) for rate in ("matmul", "copy"))
    table: list[dict[str, Any]] = []

    def add(what: str, values: dict[str, float], digits: int, more_is_better: bool = False) -> None:
        if len(values) == len(measured.sides):
            table.append({"what": what, "digits": digits, "more_is_better": more_is_better, **values})

    def seconds(phase: str) -> dict[str, float]:
        taken = {name: times(results, phase) for name, results in measured.sides.items()}
        return {name: median(values) for name, values in taken.items() if values}

    def per_second(amount: float, phase: str, unit: float) -> dict[str, float]:
        return {name: amount / value / unit for name, value in seconds(phase).items()}

    add("step, s", seconds("step"), 2)
    add("  sampling, s", seconds("sampling"), 2)
    add("  update, s", seconds("update"), 2)
    add("processor time of a step, s", seconds("cpu"), 2)
    add("tokens/s, step", per_second(least.completion_tokens, "step", 1), 0, True)
    add("tokens/s, sampling", per_second(least.completion_tokens, "sampling", 1), 0, True)
    peaks = {name: max(result["peak_bytes"] for result in r) / 1e6 for name, r in measured.sides.items()}
    add("peak memory, MB", peaks, 0)
    add("update, % of matmul rate", per_second(least.update_operations, "update", matmul / 100), 1, True)
    add(
        "sampling, % of matmul rate", per_second(least.sampling_operations, "sampling", matmul / 100), 1, True
    )
    add("sampling, % of copy rate", per_second(least.sampling_bytes, "sampling", copy / 100), 1, True)
    return table


def times(results: Sequence[Mapping[str, Any]], phase: str) -> list[float]:
    """Seconds of this phase in every timed step of every process."""
    return [step[phase] for result in results for step in result["steps"] if phase in step]


def render(measured: Measured) -> str:
    """The table as text; in the last columns, above 1 means that the first side is better than the other."""
    names = list(measured.sides)
    others = names[1:]
    lines = [f"{measured.workload.name}: {measured.workload.describe()}; {measured.threads} threads", ""]
    header = [f"{name:>14}" for name in names] + [f"{'vs ' + name:>18}" for name in others]
    lines.append(f"{'':<30}" + "".join(header))
    for row in rows(measured):
        cells = [f"{row[name]:>14,.{row['digits']}f}" for name in names]
        ratios = [f"{_ratio(row, names[0], name):>18}" for name in others]
        lines.append(f"{row['what']:<30}" + "".join(cells + ratios))
    told = [f"×: ratio of medians, above 1 where {names[0]} is better"] if others else []
    return "\n".join([*lines, "", *told, *_notes(measured)])


def describe(least: Floor) -> str:
    """The floor in one line."""
    phases = {
        "sampling": (least.sampling_operations, least.sampling_bytes),
        "update": (least.update_operations, least.update_bytes),
    }
    told = [
        f"{phase} {operations / 1e9:.4g} GFLOP and {read / 1e9:.3g} GB"
        for phase, (operations, read) in phases.items()
        if operations
    ]
    return ", ".join([*told, f"{least.completion_tokens:,} completion tokens"])


def _ratio(row: Mapping[str, Any], ours: str, theirs: str) -> str:
    if not row[ours] or not row[theirs]:
        return ""
    better = row[ours] / row[theirs] if row["more_is_better"] else row[theirs] / row[ours]
    return f"{better:.2f} ×"


def _notes(measured: Measured) -> list[str]:
    least = floor(measured.workload)
    matmul, copy = (median(result[rate] for result in measured.machine) for rate in ("matmul", "copy"))
    notes = [
        f"machine: {matmul / 1e9:.0f} GFLOP/s in {measured.workload.precision} products, "
        f"{copy / 1e9:.1f} GB/s read and written by a copy",
        f"floor: {describe(least)}",
    ]
    for name, results in measured.sides.items():
        taken = times(results, "step") or times(results, "sampling")
        spread = f"{len(taken)} timed in {len(results)} processes, {min(taken):.2f} to {max(taken):.2f} s"
        versions = ", ".join(f"{package} {version}" for package, version in results[0]["versions"].items())
        settings = ", ".join(f"{key} {value}" for key, value in measured.settings.get(name, {}).items())
        notes.append(f"{name}: {spread}; {versions}" + (f"; {settings}" if settings else ""))
    return notes
