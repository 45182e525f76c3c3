"""TRL's tables of completions, read at once: `view.trl_run` says what is taken from them and how."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.view.run import INDEX, LONGEST_CELL

if TYPE_CHECKING:
    import polars as pl

OWN = ("step", "prompt", "completion", "advantage")
# Columns that hold a right answer, and TRL's own reward for giving it.
GOLD, RIGHT = ("solution", "answer", "ground_truth", "gold", "label"), "accuracy_reward"
_OPENS, _CLOSES = "<answer>", "</answer>"
_ANSWER = rf"(?is){_OPENS}.*?{_CLOSES}"
_BETWEEN = "\n\n"  # messages of a conversation


def read_index(paths: Sequence[Path], rewards: Sequence[str]) -> pl.DataFrame:
    """The columns of `INDEX` and `file`. rewards: the columns that are components of the reward."""
    import polars as pl

    schema = pl.read_parquet_schema(paths[0])
    gold = [pl.col(name).cast(pl.String) for name in GOLD if name in schema and name not in rewards]
    scores = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in rewards]
    table = _scanned(paths, schema).select(
        _place_of(paths).alias("file"),
        pl.col("step").cast(pl.Int32).alias("round"),
        text_of("prompt", schema["prompt"]).fill_null("").alias("prompt"),
        text_of("completion", schema["completion"]).fill_null("").alias("text"),
        pl.when(pl.any_horizontal(score.is_not_null() for score in scores))
        .then(pl.sum_horizontal(scores))
        .alias("reward")
        if scores
        else pl.lit(None, pl.Float64).alias("reward"),
        pl.col("advantage").cast(pl.Float64).fill_nan(None),
        (pl.col(RIGHT) > 0 if RIGHT in rewards else pl.lit(None, pl.Boolean)).alias("correct"),
        (pl.coalesce(gold) if gold else pl.lit(None, pl.String)).str.slice(0, LONGEST_CELL).alias("gold"),
    )
    return _with_groups(table.collect()).select("file", *INDEX)


def read_matches(paths: Sequence[Path], text: str) -> pl.Series:
    """For each completion in the index's order, whether it or its prompt has the text, in any case."""
    import polars as pl

    schema = pl.read_parquet_schema(paths[0])
    pattern = f"(?i){pl.escape_regex(text)}"
    found = _scanned(paths, schema).select(
        pl.any_horizontal(
            text_of(name, schema[name]).str.contains(pattern).fill_null(False)
            for name in ("prompt", "completion")
        ).alias("found")
    )
    return found.collect()["found"]


def _scanned(paths: Sequence[Path], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    import polars as pl

    return pl.scan_parquet(
        list(paths),
        schema=dict(schema),
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths="path",
        glob=False,
    )


def _place_of(paths: Sequence[Path]) -> pl.Expr:
    import polars as pl

    places = {str(path): place for place, path in enumerate(paths)}
    return pl.col("path").replace_strict(places, return_dtype=pl.Int32)


def text_of(name: str, kind: pl.DataType) -> pl.Expr:
    """A column of prompts or completions as text: it is text, or chat messages, whose content may come in parts.

    One message of the assistant is its content alone; else every message begins with its role.
    """
    import polars as pl

    column = pl.col(name)
    if not isinstance(kind, pl.List):
        return column.cast(pl.String)
    message = pl.element().struct
    content = message.field("content")
    if isinstance(kind.inner, pl.Struct) and isinstance(kind.inner.to_schema()["content"], pl.List):
        parts = pl.element().struct.field("text").fill_null("")
        content = content.list.eval(parts).list.join("\n")
    content = content.fill_null("")
    alone = (column.list.len() == 1) & (column.list.first().struct.field("role") == "assistant")
    # Only what has several messages is joined: of most tables that is one column of two.
    several = pl.when(alone).then(None).otherwise(column)
    told = several.list.eval(pl.format("{}: {}", message.field("role"), content)).list.join(_BETWEEN)
    return pl.when(alone).then(column.list.eval(content).list.first()).otherwise(told)


def _with_groups(table: pl.DataFrame) -> pl.DataFrame:
    """With group, sample and case of each row, from its prompt and those beside it."""
    import polars as pl

    begins = (pl.col("prompt") != pl.col("prompt").shift()).over("file").fill_null(True)
    table = table.with_columns(
        begins.cum_sum().alias("run"), pl.int_range(pl.len()).over("file").alias("place")
    )
    runs = table.group_by("file", "run", maintain_order=True).len()
    sizes = {
        file: math.gcd(*lengths) for file, lengths in runs.group_by("file").agg(pl.col("len")).iter_rows()
    }
    cases = {prompt: case_id(prompt) for prompt in table["prompt"].unique()}
    size = pl.col("file").replace_strict(sizes, default=1, return_dtype=pl.Int64)
    # The tags are cut off by their lengths: a pattern that captures takes twice as long.
    tagged = pl.col("text").str.extract_all(_ANSWER).list.last()
    answer = tagged.str.slice(len(_OPENS)).str.head(-len(_CLOSES)).str.strip_chars()
    return table.with_columns(
        (pl.col("place") // size).cast(pl.Int32).alias("group"),
        (pl.col("place") % size).cast(pl.Int32).alias("sample"),
        pl.col("prompt").replace_strict(cases, default=None, return_dtype=pl.String).alias("case_id"),
        pl.col("text").str.len_chars().cast(pl.Int32).alias("length"),
        answer.str.slice(0, LONGEST_CELL).alias("answer"),
        *(pl.lit(None, pl.String).alias(name) for name in ("finish", "given")),
        pl.lit(None, pl.Int32).alias("defects"),
        pl.lit(None, pl.Boolean).alias("unsound"),
    )


def case_id(prompt: str) -> str:
    """A short name of a prompt: TRL's cases have none."""
    return hashlib.blake2b(prompt.encode("utf-8", "replace"), digest_size=5).hexdigest()
