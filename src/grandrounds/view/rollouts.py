"""All completions of a run as a table of small columns, kept in step with its folder; texts are read when shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from grandrounds.view.filters import FILTERS
from grandrounds.view.run import INDEX, Run, Stored

if TYPE_CHECKING:
    import polars as pl

PAGE = 50
ORDERS = {
    "newest": "Newest rounds first",
    "oldest": "Oldest rounds first",
    "longest": "Longest first",
    "reward": "Highest reward first",
    "spread": "Widest spread of rewards first",
}


@dataclass(frozen=True)
class Query:
    """What is asked for. case: only this case's id; search: a text in prompt or completion, in any case."""

    filter: str = "all"
    search: str = ""
    case: str = ""
    order: str = ""
    groups: bool = True
    page: int = 1


@dataclass(frozen=True)
class _State:
    """The files that were read, each with what tells that it changed, and their completions in order."""

    files: tuple[tuple[Path, int, int], ...]
    frame: pl.DataFrame
    unreadable: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [path for path, _, _ in self.files]


class Rollouts:
    """The completions of one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._state: _State | None = None
        self._lock = Lock()
        self._searched: tuple[_State, str, Any] | None = None

    def state(self) -> _State:
        """The index, brought up to date: new files are added; where others changed, all are read again."""
        with self._lock:
            files, known = _listed(self.run), self._state
            if known is None or files[: len(known.files)] != known.files:
                known = _State((), self._empty())
            new = files[len(known.files) :]
            if new or self._state is not known:
                self._state = known = self._with(known, new)
            return known

    def _with(self, known: _State, new: tuple[tuple[Path, int, int], ...]) -> _State:
        import polars as pl

        if not new:
            return known
        first = len(known.files)
        frame, unreadable = self._read([path for path, _, _ in new])
        frame = frame.with_columns(pl.col("file") + first)
        return replace(
            known,
            files=(*known.files, *new),
            frame=pl.concat([known.frame, frame]),
            unreadable=(*known.unreadable, *unreadable),
        )

    def _read(self, paths: list[Path]) -> tuple[pl.DataFrame, list[str]]:
        """The index of these files at once; one by one where that fails, without those that cannot be read."""
        import polars as pl

        try:
            return self.run.index(paths), []
        except Exception:  # whatever a damaged or foreign file makes a reader raise
            frames, unreadable = [self._empty()], []
        for place, path in enumerate(paths):
            try:
                frames.append(self.run.index([path]).with_columns(pl.lit(place, pl.Int32).alias("file")))
            except Exception as error:
                unreadable.append(f"{path.name} cannot be read: {str(error).splitlines()[0][:200]}")
        return pl.concat(frames), unreadable

    @staticmethod
    def _empty() -> pl.DataFrame:
        import polars as pl

        types = {name: getattr(pl, kind)() for name, kind in INDEX.items()}
        return pl.DataFrame(schema={"file": pl.Int32(), **types})

    def filters(self) -> list[dict[str, Any]]:
        """Every filter, and whether this run keeps what it needs."""
        frame = self.state().frame
        return [
            {
                "name": name,
                "label": one.label,
                "help": one.help,
                "order": one.order,
                "available": all(frame[column].null_count() < frame.height for column in one.needs),
            }
            for name, one in FILTERS.items()
        ]

    def page(self, query: Query) -> dict[str, Any]:
        """The number of completions and of groups found, and one page of them."""
        import polars as pl

        state = self.state()
        wanted = FILTERS[query.filter].rows()
        if query.case:
            wanted &= pl.col("case_id") == query.case
        if query.search:
            wanted &= self._matches(state, query.search)
        found = state.frame.filter(wanted)
        keys = found.select("file", "group").unique() if query.groups else found
        table = _groups(state.frame.join(keys, on=["file", "group"], how="semi")) if query.groups else found
        table = _ordered(table, query.order or FILTERS[query.filter].order, query.groups)
        start = PAGE * (query.page - 1)
        return {
            "completions": found.height,
            "groups": keys.height if query.groups else found.select("file", "group").n_unique(),
            "total": table.height,
            "pages": max(1, -(-table.height // PAGE)),
            "rows": table.slice(start, PAGE).drop("file").to_dicts(),
        }

    def _matches(self, state: _State, text: str) -> pl.Series:
        """Which completions have the text. The last search is kept: its pages need no other."""
        import polars as pl

        if self._searched and self._searched[0] is state and self._searched[1] == text:
            return self._searched[2]
        found = self.run.matches([path for path in state.paths if self._readable(path, state)], text)
        self._searched = (state, text, found)
        return found if found.len() else pl.Series("found", [], dtype=pl.Boolean)

    @staticmethod
    def _readable(path: Path, state: _State) -> bool:
        return not any(line.startswith(f"{path.name} ") for line in state.unreadable)

    def group(self, number: int, group: int) -> list[Stored]:
        """The completions of a group of a round; none where there is no such group."""
        place = self._place(number, group)
        return [] if place is None else self.run.group(self.state().paths[place], group)

    def neighbours(self, number: int, group: int) -> dict[str, list[int] | None]:
        """(round, group) before and after this group, in the order of the run."""
        keys = self.state().frame.select("round", "group").unique(maintain_order=True)
        rows = keys.rows()
        place = rows.index((number, group)) if (number, group) in rows else None
        if place is None:
            return {"before": None, "after": None}
        return {
            "before": list(rows[place - 1]) if place else None,
            "after": list(rows[place + 1]) if place + 1 < len(rows) else None,
        }

    def case(self, case_id: str) -> list[dict[str, Any]]:
        """The groups of a case over the rounds."""
        import polars as pl

        rows = self.state().frame.filter(pl.col("case_id") == case_id)
        return _groups(rows).sort("round", "group").drop("file").to_dicts()

    def _place(self, number: int, group: int) -> int | None:
        import polars as pl

        found = self.state().frame.filter((pl.col("round") == number) & (pl.col("group") == group))
        return found["file"][0] if found.height else None


def _listed(run: Run) -> tuple[tuple[Path, int, int], ...]:
    listed = []
    for path in run.files():
        try:
            state = path.stat()
        except OSError:  # a resumed run removes rounds that it will do again
            continue
        listed.append((path, state.st_mtime_ns, state.st_size))
    return tuple(listed)


def _groups(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per group."""
    import polars as pl

    reward = pl.col("reward")
    return rows.group_by("file", "group", maintain_order=True).agg(
        pl.col("round", "case_id", "gold").first(),
        pl.len().alias("size"),
        reward.mean().alias("reward"),
        (reward.max() - reward.min()).alias("spread"),
        pl.col("correct").sum().alias("right"),
        pl.col("correct").count().alias("judged"),
        pl.col("length").max().alias("length"),
        pl.col("advantage").alias("advantages"),
        pl.col("correct").alias("verdicts"),
        pl.col("answer").drop_nulls().mode().sort().first().alias("answer"),
        pl.col("answer").drop_nulls().n_unique().alias("answers"),
    )


def _ordered(table: pl.DataFrame, order: str, groups: bool) -> pl.DataFrame:
    place = ["round", "group"] if groups else ["round", "group", "sample"]
    newest = [True, *([False] * (len(place) - 1))]
    if order == "oldest":
        return table.sort(place)
    if order in ("longest", "reward") or (order == "spread" and groups):
        by = "length" if order == "longest" else order
        return table.sort([by, *place], descending=[True, *newest], nulls_last=True)
    return table.sort(place, descending=newest)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Numbers in rows as columns, six digits each; whatever else stands in them is left out."""
    names = {key for row in rows for key, value in row.items() if _is_number(value)}
    return {name: [_short(row.get(name)) for row in rows] for name in sorted(names)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> float | None:
    return float(f"{value:.6g}") if _is_number(value) and abs(value) < 1e300 else None
