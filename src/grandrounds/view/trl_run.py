"""A run that TRL's GRPOTrainer wrote: completions/*.parquet of `log_completions=True`, and trainer_state.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.response.grammar import Grammar
from grandrounds.view.jsonl import read_object
from grandrounds.view.run import Component, Stored
from grandrounds.view.trl_table import GOLD, OWN, RIGHT, case_id, read_index, read_matches, text_of
from grandrounds.view.warnings import guard_warnings

if TYPE_CHECKING:
    import polars as pl

STATE = "trainer_state.json"
# What the trainer itself logs beside the metrics.
_LOGGED = re.compile(r"^rewards/(?P<name>.+)/mean$")


def is_trl_run(path: Path) -> bool:
    """Whether the folder is an output_dir of TRL with something to show."""
    return any(path.glob("completions/completions_*.parquet")) or _newest_state(path) is not None


def _newest_state(path: Path) -> Path | None:
    """The trainer_state.json that was written last: of the folder or of a checkpoint."""
    states = [*path.glob(STATE), *path.glob(f"checkpoint-*/{STATE}")]
    return max(states, key=lambda state: state.stat().st_mtime_ns, default=None)


class TrlRun:
    """Reads an output_dir. A round is a step.

    TRL keeps no weights of rewards, verdicts, or token counts: a reward is the plain sum, lengths are in characters,
    and an answer is right where its reward `accuracy_reward` says so.
    """

    kind, length_unit = "TRL", "characters"

    def __init__(self, path: Path) -> None:
        self.path, self._epoch = path, 0
        self._state: tuple[Path, int] | None = None
        self._rows: list[dict[str, Any]] = []
        self._logged: set[str] = set()  # reward functions whose means are logged

    def about(self) -> Mapping[str, Any]:
        rounds = self._read_state().get("max_steps")
        return {"rounds": rounds} if isinstance(rounds, int) else {}

    def grammar(self) -> Grammar:
        return Grammar()

    def _read_state(self) -> Mapping[str, Any]:
        found = _newest_state(self.path)
        return {} if found is None else read_object(found)

    def metrics(self) -> tuple[int, Sequence[Mapping[str, Any]]]:
        found = _newest_state(self.path)
        now = None if found is None else (found, found.stat().st_mtime_ns)
        if now != self._state:
            self._state, self._epoch = now, self._epoch + 1
            history = self._read_state().get("log_history")
            self._rows = _by_step(history if isinstance(history, list) else [])
            keys = {key for row in self._rows for key in row}
            self._logged = {match["name"] for key in keys if (match := _LOGGED.match(key))}
        return self._epoch, self._rows

    def evaluations(self) -> Sequence[Mapping[str, Any]]:
        return ()

    def warnings(self) -> Sequence[Mapping[str, Any]]:
        return guard_warnings(self.metrics()[1])

    def watched(self) -> Sequence[Path]:
        state = _newest_state(self.path)
        return [self.path / "completions", self.path, *([state] if state else [])]

    def files(self) -> list[Path]:
        return sorted(self.path.glob("completions/completions_*.parquet"), key=_step_of)

    def index(self, paths: Sequence[Path]) -> pl.DataFrame:
        import polars as pl

        return read_index(paths, self._rewards_in(pl.read_parquet_schema(paths[0])))

    def matches(self, paths: Sequence[Path], text: str) -> pl.Series:
        import polars as pl

        return read_matches(paths, text) if paths else pl.Series("found", [], dtype=pl.Boolean)

    def group(self, path: Path, group: int) -> list[Stored]:
        import polars as pl

        schema = pl.read_parquet_schema(path)
        prompts, texts = (
            pl.read_parquet(path, columns=[name], glob=False)
            .select(text_of(name, schema[name]))[name]
            .to_list()
            for name in ("prompt", "completion")
        )
        places = groups_of([prompt or "" for prompt in prompts])
        first, last = places.index((group, 0)), sum(number <= group for number, _ in places)
        rows = pl.read_parquet(path, glob=False).slice(first, last - first).to_dicts()
        rewards = self._rewards_in(schema)
        return [
            _stored(row, prompts[first + turn] or "", texts[first + turn] or "", turn, rewards)
            for turn, row in enumerate(rows)
        ]

    def _rewards_in(self, schema: Mapping[str, pl.DataType]) -> tuple[str, ...]:
        """The columns of reward functions: those whose means are logged, else all with decimal numbers."""
        self.metrics()
        if found := tuple(name for name in schema if name in self._logged):
            return found
        return tuple(name for name, kind in schema.items() if name not in OWN and kind.is_float())


def groups_of(prompts: Sequence[str]) -> list[tuple[int, int]]:
    """(group, index in it) of each row. Rows of a group are neighbours with one prompt, and groups are equally large.

    Where one prompt was drawn twice in a row, its run of rows is twice as long: the greatest common divisor of the
    runs is the size of a group.
    """
    runs = [len(list(run)) for _, run in groupby(prompts)]
    size = math.gcd(*runs) if runs else 1
    return [divmod(place, size) for place in range(len(prompts))]


def _stored(row: Mapping[str, Any], prompt: str, text: str, sample: int, rewards: Sequence[str]) -> Stored:
    response = Grammar().parse(text)
    scores = {name: _number(row.get(name)) for name in rewards}
    known = [score for score in scores.values() if score is not None]
    extras = {name: value for name, value in row.items() if name not in (*OWN, *rewards)}
    gold = next((str(extras[name]) for name in GOLD if extras.get(name) is not None), None)
    right = scores.get(RIGHT)
    return Stored(
        sample=sample,
        case_id=case_id(prompt),
        prompt=prompt,
        text=text,
        components=tuple(Component(name, score) for name, score in scores.items()),
        reward=sum(known) if known else None,
        advantage=_number(row.get("advantage")),
        length=len(text),
        answer=response.answer,
        gold=gold,
        correct=None if right is None else right > 0,
        extras=extras,
        question=_question(row.get("prompt")),
    )


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _question(prompt: Any) -> str | None:
    """The last user message of a conversation."""
    if not isinstance(prompt, list):
        return None
    asked = [_content(message) for message in prompt if message.get("role") == "user"]
    return asked[-1] if asked else None


def _by_step(history: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of log_history, those of one step joined, with `round` for `step`."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if isinstance(entry, dict) and isinstance(step := entry.get("step"), int):
            rows.setdefault(step, {"round": step}).update(entry)
    return [rows[step] for step in sorted(rows)]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _step_of(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else 0), path.name
