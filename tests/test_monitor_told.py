"""What the monitor told is read in one way by the viewer and the report."""

from __future__ import annotations

from typing import Any

from grandrounds.training.monitor.told import Told, told

LONGER = {"sign": "length", "what": "Longer and longer", "cause": "The reward pays for it", "hint": "Cap it"}


def row(number: int, *findings: Any, said: Any = ()) -> dict[str, Any]:
    return {"round": number, "readings": {}, "findings": list(findings), "said": list(said)}


def test_a_sign_is_told_each_time_that_it_is_new_and_may_stand_to_the_end() -> None:
    rows = [
        row(3, LONGER, said=["length"]),
        row(4, LONGER),
        row(5),
        row(9, {**LONGER, "what": "Again"}, said=["length"]),
    ]
    assert told(rows[:2]) == [Told(3, **LONGER, standing=True)]
    assert told(rows[:3]) == [Told(3, **LONGER)]
    assert [(one.round, one.what) for one in told(rows)] == [(3, "Longer and longer"), (9, "Again")]


def test_that_the_run_was_taken_back_stands_among_the_rounds() -> None:
    found = told([row(2, LONGER, said=["length"]), row(9, LONGER, said=["length"])], [{"round": 5, "to": 1}])
    assert [(one.round, one.sign) for one in found] == [(2, "length"), (5, "rolled back"), (9, "length")]
    assert found[1].what == "The run was taken back to round 1"


def test_rows_of_another_program_tell_nothing_and_break_nothing() -> None:
    strange = [
        {},
        {"round": "x", "findings": "nonsense", "said": 3},
        row(7, 1, {"what": 5, "sign": "s"}, {"sign": ["s"]}, said=["s"]),
        {"findings": [LONGER], "said": ["length"], "round": None},
    ]
    assert told(strange) == []
    assert told([]) == []
