"""What the monitor and the guard say of a run, as rows for the page: round, what, cause, hint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from grandrounds.errors import RunError
from grandrounds.recipe import GuardRecipe
from grandrounds.training.guard import Guard

# The names under which a row may say the same.
_NAMES = {
    "what": ("what", "message", "text", "sign"),
    "sign": ("sign", "name", "kind"),
    "cause": ("cause", "why"),
    "hint": ("hint", "advice"),
}


def monitor_warnings(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The findings in rows of monitor.jsonl, each sign once for every time that it is new.

    A row is one finding, or a round with a list `findings`; where it has `said`, only those signs are new in it.
    """
    warnings: list[dict[str, Any]] = []
    for row in rows:
        findings = row.get("findings", [row])
        said = row.get("said")
        for finding in findings if isinstance(findings, list) else []:
            if not isinstance(finding, Mapping):
                continue
            if isinstance(said, list) and finding.get("sign") not in said:
                continue
            warnings.append({"round": row.get("round"), **_told(finding)})
    return [warning for warning in warnings if warning["what"]]


def _told(finding: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: next((text for key in keys if isinstance(text := finding.get(key), str) and text), "")
        for name, keys in _NAMES.items()
    }


def rolled_back(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A warning for each row of rolled_back.jsonl: the run went back to an earlier checkpoint."""
    return [
        {
            "round": row.get("round"),
            "sign": "rolled back",
            "what": f"the run was rolled back to round {row.get('to')}",
            "cause": "",
            "hint": "",
        }
        for row in rows
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
