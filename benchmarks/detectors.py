"""How often the detectors of behaviour are right: precision and recall on reasonings that were labelled by reading.

    python benchmarks/detectors.py
    python benchmarks/detectors.py --traces yours.jsonl

A row has `text`, `question`, `labels` (behaviour -> true or false), `half` ("built on" for what the detectors were
written with, else "unseen"), `source`, and `facts` where they are known.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.record import RESULTS, ROOT, record
from grandrounds.behaviour.detectors import BEHAVIOURS
from grandrounds.behaviour.trace import Trace
from grandrounds.evaluation.statistics import Share, wilson

TRACES = ROOT / "tests/traces.jsonl"
HALVES = ("built on", "unseen")
COLUMNS = ("behaviour", "half", "show it", "precision", "recall")
# Outlines of the clinic's own models all show three behaviours in the same words, so that nothing is told by them.
OUTLINES = "clinic model"


@dataclass(frozen=True)
class Labelled:
    """A reasoning with the behaviours that a reader found in it."""

    trace: Trace
    labels: dict[str, bool]
    half: str
    source: str


@dataclass(frozen=True)
class Counts:
    """Reasonings by what the detector says (found or not) and the label says."""

    right: int
    false: int
    missed: int

    @property
    def precision(self) -> Share | None:
        """Of what was found, the share that is there."""
        return _share(self.right, self.right + self.false)

    @property
    def recall(self) -> Share | None:
        """Of what is there, the share that was found."""
        return _share(self.right, self.right + self.missed)


def read_traces(path: Path) -> list[Labelled]:
    """The labelled reasonings of a file, one JSON object in a line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Labelled(
            Trace(row["text"], row["question"], tuple(row.get("facts", ()))),
            row["labels"],
            row["half"],
            row["source"],
        )
        for row in rows
    ]


def count(name: str, labelled: Iterable[Labelled]) -> Counts:
    """How often one detector agrees with the labels."""
    pairs = [(bool(BEHAVIOURS[name](one.trace)), one.labels[name]) for one in labelled]
    return Counts(
        right=sum(found and there for found, there in pairs),
        false=sum(found and not there for found, there in pairs),
        missed=sum(there and not found for found, there in pairs),
    )


def _share(part: int, whole: int) -> Share | None:
    return Share(part / whole, whole, wilson(part, whole)) if whole else None


def _cell(share: Share | None) -> str:
    if share is None:
        return "–"
    low, high = share.interval
    return f"{share.value:.2f} ({low:.2f} to {high:.2f})"


def rows_of(labelled: Sequence[Labelled]) -> list[list[str]]:
    """A row for each behaviour and half, and for the unseen half without the clinic's outlines."""
    parts = {half: [one for one in labelled if one.half == half] for half in HALVES}
    prose = [one for one in parts["unseen"] if not one.source.startswith(OUTLINES)]
    rows = []
    for name in BEHAVIOURS:
        for label, part in (*parts.items(), ("unseen, prose alone", prose)):
            counts = count(name, part)
            there = sum(one.labels[name] for one in part)
            shares = (_cell(counts.precision), _cell(counts.recall))
            rows.append([f"`{name}`", label, f"{there} of {len(part)}", *shares])
    return rows


def main() -> None:
    """Print the table, and keep it where the traces are our own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--traces", type=Path, default=TRACES, help="JSONL with labelled reasonings")
    arguments = parser.parse_args()
    labelled = read_traces(arguments.traces)
    rows = rows_of(labelled)
    for row in (COLUMNS, *rows):
        print("".join(f"{cell:<26}" for cell in row))
    if arguments.traces == TRACES:
        sources: dict[str, Any] = {}
        for one in labelled:
            sources[one.source] = sources.get(one.source, 0) + 1
        note = f"{len(labelled)} labelled reasonings; in brackets Wilson's 95 % interval."
        record(RESULTS / "behaviour.json", COLUMNS, rows, note, sources=sources)


if __name__ == "__main__":
    main()
