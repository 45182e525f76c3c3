"""What the page needs of a run, whoever made it: Grand Rounds or TRL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from grandrounds.errors import RunError
from grandrounds.response.grammar import Grammar

if TYPE_CHECKING:
    import polars as pl

# The columns of an index with their types, as Polars names them. One row is one completion.
INDEX = {
    "round": "Int32",
    "group": "Int32",  # index in the round
    "sample": "Int32",  # index in the group
    "case_id": "String",
    "reward": "Float64",
    "advantage": "Float64",
    "length": "Int32",
    "finish": "String",
    "correct": "Boolean",
    "given": "String",
    "answer": "String",
    "gold": "String",
    "defects": "Int32",  # how many
    "unsound": "Boolean",  # whether a check of the reasoning failed
}

# Short columns may hold anything a model wrote; the index keeps so many characters.
LONGEST_CELL = 200


@dataclass(frozen=True)
class Component:
    """One reward component of a completion. weight: None where the run does not say it. note: what decided it."""

    name: str
    score: float | None
    weight: float | None = None
    gate: bool = False
    note: Any = None


@dataclass(frozen=True)
class Stored:
    """One completion with everything that the run keeps of it.

    question: the case without the chat template, or None; facts: its findings, or None where they are not kept.
    tokens: (text, log-probability) of each token, or None where they are not kept.
    """

    sample: int
    case_id: str
    prompt: str
    text: str
    components: tuple[Component, ...]
    reward: float | None
    advantage: float | None
    length: int | None = None
    finish: str | None = None
    answer: str | None = None
    given: str | None = None
    gold: str | None = None
    correct: bool | None = None
    defects: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    question: str | None = None
    facts: tuple[str, ...] | None = None
    tokens: tuple[tuple[str, float], ...] | None = None


class Run(Protocol):
    """A folder that is read.

    kind: who made it. length_unit: what `length` counts. epoch: see `JsonLines`.
    """

    path: Path
    kind: str
    length_unit: str

    def about(self) -> Mapping[str, Any]:
        """Facts for the top of the page: rounds planned, model, source of the cases."""

    def grammar(self) -> Grammar:
        """The tags of its responses."""

    def metrics(self) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """(epoch, a row for each round)."""

    def evaluations(self) -> Sequence[Mapping[str, Any]]:
        """A row for each held-out evaluation."""

    def warnings(self) -> Sequence[Mapping[str, Any]]:
        """What is wrong with the run, the newest last: round, what, cause, hint."""

    def watched(self) -> Sequence[Path]:
        """The files and folders whose times tell that the run went on."""

    def files(self) -> list[Path]:
        """The files with its completions, in order."""

    def index(self, paths: Sequence[Path]) -> pl.DataFrame:
        """The columns of `INDEX` and `file`, the position of the completion's file in `paths`."""

    def matches(self, paths: Sequence[Path], text: str) -> pl.Series:
        """For each completion, in the index's order, whether it or its prompt has this text, in any case."""

    def group(self, path: Path, group: int) -> list[Stored]:
        """The completions of one group."""


def open_run(path: Path, *, waiting: bool = False) -> Run:
    """The run in a folder. RunError where there is none; with `waiting`, a run of ours that has yet to begin."""
    from grandrounds.view.own_run import OwnRun, is_own_run
    from grandrounds.view.trl_run import TrlRun, is_trl_run

    if is_own_run(path) or waiting:
        return OwnRun(path)
    if is_trl_run(path):
        return TrlRun(path)
    raise RunError(
        "there is no run here" if path.is_dir() else "there is no such folder",
        where=str(path),
        hint="Name a folder that `grandrounds train` wrote, or the output_dir of TRL's GRPOTrainer with "
        "log_completions=True.",
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each folder: its own; where several have the same, with as many folders above as it takes."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        size = 1
        while size < len(own) and sum(other[-size:] == own[-size:] for other in parts) > 1:
            size += 1
        names.append("/".join(own[-size:]))
    return names
