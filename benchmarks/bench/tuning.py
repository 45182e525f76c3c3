"""The peer's own settings that serve it best here: tried once, remembered in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.side import Job, Side, SideFailed, run_side
from bench.workloads import Workload

Settings = dict[str, Any]
# Smaller micro-batches are tried until one takes this much longer than the best.
HOPELESS = 1.1


def best_trl_settings(side: Side, job: Job, memory: Path, tell: Callable[[str], None]) -> Settings:
    """The settings with the fastest update; from `memory` where they were found before on this workload."""
    known = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    name = f"{job.workload.describe()}; {job.threads} threads"
    if name not in known:
        known[name] = search(job.workload, lambda settings: _update_time(side, job, settings, tell))
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[name]


def search(workload: Workload, update_time: Callable[[Settings], float | None]) -> Settings:
    """The fastest micro-batch that survives, then whether autocast helps a bfloat16 model.

    update_time: seconds, or None where the settings do not fit into memory. The whole round at once is tried first,
    then halves of it. Only where nothing fits are activations computed twice.
    """
    plain: Settings = {"autocast": False, "checkpointing": False}
    times: list[tuple[float, Settings]] = []
    size = workload.completions
    while size and not (times and times[-1][0] > HOPELESS * min(times, key=_seconds)[0]):
        settings = {"micro_batch": size, **plain}
        seconds = update_time(settings)
        if seconds is not None:
            times.append((seconds, settings))
        size //= 2
    if not times:
        return {"micro_batch": workload.group, "autocast": False, "checkpointing": True}
    best = min(times, key=_seconds)
    if workload.precision == "bfloat16":
        settings = {**best[1], "autocast": True}
        seconds = update_time(settings)
        best = best if seconds is None else min(best, (seconds, settings), key=_seconds)
    return best[1]


def _seconds(trial: tuple[float, Settings]) -> float:
    return trial[0]


def _update_time(side: Side, job: Job, settings: Settings, tell: Callable[[str], None]) -> float | None:
    # Where steps take so long that one is timed, the first one's warming up is no matter.
    warmup = min(job.warmup, job.workload.steps - 1)
    try:
        result = run_side(side, replace(job, warmup=warmup, steps=1, settings=settings))
    except SideFailed as failure:
        tell(f"  {side.name} with {settings} failed: {str(failure).splitlines()[-1]}")
        return None
    seconds = float(result["steps"][0]["update"])
    tell(f"  {side.name} with {settings}: an update of {seconds:.2f} s")
    return seconds
