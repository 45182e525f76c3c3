"""What the monitor and the guard say of a run, as rows for the page: round, what, cause, hint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from grandrounds.errors import RunError
from grandrounds.recipe import GuardRecipe
from grandrounds.training.guard import Guard
from grandrounds.training.monitor.told import told


def monitor_warnings(
    monitor: Sequence[Mapping[str, Any]], rolled_back: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What the monitor told, from the rows of its files."""
    return [
        {name: value for name, value in asdict(one).items() if name != "standing"}
        for one in told(monitor, rolled_back)
    ]


def guard_warnings(
    rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Why the guard stopped the run after its last round, or would have stopped a run that has none."""
    try:
        recipe = GuardRecipe.model_validate(settings or {})
    except ValidationError:
        recipe = GuardRecipe()
    if not rows:
        return []
    try:
        Guard(recipe, rows[:-1]).check(rows[-1])
    except RunError as error:
        said = {"sign": "guard", "what": f"{error.where}: {error.what}", "cause": "", "hint": error.hint}
        return [{"round": rows[-1].get("round"), **said}]
    except (TypeError, ValueError):  # rows of another program, with other values under our names
        return []
    return []
