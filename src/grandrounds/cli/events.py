"""A run's events for machines: one JSON object on each line of standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from grandrounds.cli.as_json import finite
from grandrounds.training.progress import MetricsRow, SilentProgress


class JsonEvents(SilentProgress):
    """`{"event": …}` for each step of the warm-up, round (its row of metrics.jsonl), note, and the end."""

    def warmup(self, step: int, steps: int, metrics: MetricsRow) -> None:
        self._say("warmup", {"step": step, "steps": steps, "metrics": metrics})

    def round(self, done: int, rounds: int, row: MetricsRow) -> None:
        self._say("round", {"round": done, "rounds": rounds, "metrics": row})

    def note(self, text: str) -> None:
        self._say("note", {"text": text})

    def finished(self, text: str) -> None:
        self._say("finished", {"text": text})

    def _say(self, event: str, values: Mapping[str, Any]) -> None:
        line = json.dumps({"event": event, **finite(values)}, ensure_ascii=False, allow_nan=False)
        print(line, file=sys.stdout, flush=True)
