"""A run that Grand Rounds wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.response.grammar import Grammar
from grandrounds.view.jsonl import JsonLines, json_object
from grandrounds.view.run import INDEX, LONGEST_CELL, Component, Stored
from grandrounds.view.tokens import token_texts
from grandrounds.view.warnings import guard_warnings, monitor_warnings

if TYPE_CHECKING:
    import polars as pl

RECIPE, PREFIX = "recipe.yaml", "rewards/"
# Components that check a reasoning: less than full marks means that something in it does not hold.
CHECKS = ("validity", "consistency")


def is_own_run(path: Path) -> bool:
    """Whether the folder holds a run of ours."""
    return (path / RECIPE).is_file()


class OwnRun:
    """Reads the folder of a run. See `training.folder` for its files, and `training.trace` for the columns."""

    kind, length_unit = "Grand Rounds", "tokens"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics = JsonLines(path / "metrics.jsonl")
        self._evaluations = JsonLines(path / "evaluations.jsonl")
        self._monitor = JsonLines(path / "monitor.jsonl")
        self._rolled_back = JsonLines(path / "rolled_back.jsonl")

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe as it stands in the folder, unchecked: runs of other versions open too."""
        import yaml

        try:
            found = yaml.safe_load((self.path / RECIPE).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    def about(self) -> Mapping[str, Any]:
        recipe = self.recipe
        facts = {
            "rounds": recipe.get("rounds"),
            "model": _section(recipe, "policy").get("model"),
            "cases": _section(recipe, "cases").get("source"),
            "completions per case": _section(recipe, "grpo").get("group_size"),
        }
        return {name: value for name, value in facts.items() if isinstance(value, (str, int))}

    def grammar(self) -> Grammar:
        prompt = _section(self.recipe, "prompt")
        tags = [prompt.get(f"{name}_tag", name) for name in ("reasoning", "answer")]
        return Grammar(*tags) if all(isinstance(tag, str) for tag in tags) else Grammar()

    def metrics(self) -> tuple[int, Sequence[Mapping[str, Any]]]:
        rows = self._metrics.rows()
        return self._metrics.epoch, rows

    def evaluations(self) -> Sequence[Mapping[str, Any]]:
        return self._evaluations.rows()

    def warnings(self) -> Sequence[Mapping[str, Any]]:
        told = monitor_warnings(self._monitor.rows(), self._rolled_back.rows())
        stopped = guard_warnings(self._metrics.rows(), _section(self.recipe, "guard"))
        return [*told, *stopped]

    def watched(self) -> Sequence[Path]:
        lines = (self._metrics, self._evaluations, self._monitor, self._rolled_back)
        return [*(one.path for one in lines), self.path / RECIPE, self.path / "rollouts"]

    def files(self) -> list[Path]:
        return sorted(path for path in (self.path / "rollouts").glob("*.parquet") if path.stem.isdigit())

    def index(self, paths: Sequence[Path]) -> pl.DataFrame:
        import polars as pl

        places = {str(path): place for place, path in enumerate(paths)}
        checks = [f"{PREFIX}{name}" for name in self._checks]
        types = {name: getattr(pl, kind)() for name, kind in INDEX.items() if name != "unsound"}
        types |= {"defects": pl.List(pl.String()), **dict.fromkeys(checks, pl.Float64())}
        short = [pl.col(name).str.slice(0, LONGEST_CELL) for name in ("given", "answer", "gold", "case_id")]
        unsound = [pl.col(name) < 1 for name in checks]
        return (
            pl.scan_parquet(
                list(paths),
                schema=types,
                missing_columns="insert",
                extra_columns="ignore",
                include_file_paths="path",
                glob=False,
            )
            .with_columns(
                *short,
                pl.col("defects").list.len().cast(pl.Int32),
                (pl.any_horizontal(unsound) if unsound else pl.lit(None, pl.Boolean)).alias("unsound"),
                pl.col("path").replace_strict(places, return_dtype=pl.Int32).alias("file"),
            )
            .select("file", *INDEX)
            .collect()
        )

    def matches(self, paths: Sequence[Path], text: str) -> pl.Series:
        import polars as pl

        pattern = f"(?i){pl.escape_regex(text)}"
        wanted = {name: pl.String() for name in ("case_id", "prompt", "completion")}
        found = pl.scan_parquet(list(paths), schema=wanted, extra_columns="ignore", glob=False).select(
            pl.any_horizontal(pl.col(name).str.contains(pattern) for name in wanted).alias("found")
        )
        return found.collect()["found"].fill_null(False)

    def group(self, path: Path, group: int) -> list[Stored]:
        import polars as pl

        rows = pl.scan_parquet(path, glob=False).filter(pl.col("group") == group).collect().to_dicts()
        weights = _section(self.recipe, "rewards")
        return [self._stored(row, weights) for row in sorted(rows, key=lambda row: row["sample"])]

    def _stored(self, row: Mapping[str, Any], weights: Mapping[str, Any]) -> Stored:
        notes = json_object(row.get("notes") or "") or {}
        facts = row.get("facts")
        return Stored(
            sample=row["sample"],
            case_id=row["case_id"],
            prompt=row["prompt"] or "",
            text=row["completion"] or "",
            components=tuple(
                _component(key.removeprefix(PREFIX), value, notes, weights)
                for key, value in row.items()
                if key.startswith(PREFIX)
            ),
            **{
                name: row.get(name)
                for name in (
                    "reward",
                    "advantage",
                    "length",
                    "finish",
                    "answer",
                    "given",
                    "gold",
                    "correct",
                    "question",
                )
            },
            defects=tuple(row.get("defects") or ()),
            extras=json_object(row.get("extras") or "") or {},
            facts=None if facts is None else tuple(facts),
            tokens=token_texts(self._tokenizer, row.get("token_ids"), row.get("token_logprobs")),
        )

    @cached_property
    def _checks(self) -> tuple[str, ...]:
        """Names of the components that check a reasoning."""
        rewards = _section(self.recipe, "rewards")
        return tuple(
            name
            for name, spec in rewards.items()
            if ((isinstance(spec, dict) and spec.get("use")) or name) in CHECKS
        )

    @property
    def _tokenizer(self) -> Path | None:
        """The newest checkpoint's tokenizer."""
        return max(self.path.glob("checkpoints/*/tokenizer.json"), default=None)


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}


def _component(
    name: str, score: float | None, notes: Mapping[str, Any], weights: Mapping[str, Any]
) -> Component:
    spec = _section(weights, name)
    weight = spec.get("weight")
    return Component(
        name,
        score,
        weight=float(weight) if isinstance(weight, (int, float)) else None,
        gate=spec.get("gate") is True,
        note=notes.get(name),
    )
