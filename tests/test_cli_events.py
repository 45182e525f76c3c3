"""Events for machines: one JSON object a line, whatever the numbers."""

from __future__ import annotations

import json
import math

import pytest

from grandrounds.cli.events import JsonEvents


def test_every_event_is_a_line_of_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonEvents() as events:
        events.note('Policy "x"\nof two lines: naïve')
        events.warmup(1, 2, {"loss": math.nan})
        events.round(3, 10, {"reward": 0.5, "kl": math.inf, "sets": {"plain": math.nan}})
        events.finished("Done: runs/x")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"event": "note", "text": 'Policy "x"\nof two lines: naïve'},
        {"event": "warmup", "step": 1, "steps": 2, "metrics": {"loss": None}},
        {
            "event": "round",
            "round": 3,
            "rounds": 10,
            "metrics": {"reward": 0.5, "kl": None, "sets": {"plain": None}},
        },
        {"event": "finished", "text": "Done: runs/x"},
    ]
