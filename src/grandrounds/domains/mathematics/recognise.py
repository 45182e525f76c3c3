"""Which rows are of which published set; looks at texts alone, so that a recipe is read quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
HASHES = "####"


def ends_with_hashes(rows: Rows) -> bool:
    """GSM8K: most answers are a worked solution, and behind #### the result."""
    return _most(rows, lambda row: HASHES in str(row.get("answer")))


def boxed(rows: Rows) -> bool:
    """MATH and Open-R1: a result in a box of the solution, or in a column of its own."""
    return _most(rows, lambda row: "\\boxed" in str(row.get("solution")) or bool(row.get("answer")))


def has_ground_truth(rows: Rows) -> bool:
    """DAPO and verl: the gold answer is `reward_model.ground_truth`."""
    return _most(rows, lambda row: "ground_truth" in (row.get("reward_model") or ()))


def _most(rows: Rows, holds: Any) -> bool:
    return sum(map(holds, rows)) > len(rows) / 2
