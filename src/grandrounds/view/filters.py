"""The filters of the list of completions: what each shows, in words and as an expression over the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# The share of a run's completions that counts as its longest, and of a round's that counts as highly rewarded.
LONGEST, HIGHEST = 0.01, 0.25


@dataclass(frozen=True)
class Filter:
    """label, help: for the reader. needs: columns without which it cannot tell. rows: the condition on a completion.

    order: the order that shows best what it found.
    """

    label: str
    help: str
    needs: tuple[str, ...]
    rows: Callable[[], pl.Expr]
    order: str = "newest"


def _true() -> pl.Expr:
    import polars as pl

    return pl.lit(True)


def _wrong_and_unanimous() -> pl.Expr:
    import polars as pl

    group = ("file", "group")
    wrong = (~pl.col("correct")).all().over(group) & pl.col("correct").is_not_null().all().over(group)
    alike = (pl.col("given").n_unique() == 1).over(group) & pl.col("given").is_not_null().all().over(group)
    return wrong & alike & (pl.len().over(group) > 1)


def _high_but_invalid() -> pl.Expr:
    import polars as pl

    reward = pl.col("reward")
    bound = reward.quantile(1 - HIGHEST, "lower").over("file")
    high = (reward >= bound) & (reward > reward.mean().over("file"))
    invalid = pl.any_horizontal(
        ~pl.col("correct").fill_null(True),
        pl.col("defects").fill_null(0) > 0,
        pl.col("unsound").fill_null(False),
    )
    return high & invalid


def _no_variance() -> pl.Expr:
    import polars as pl

    group = ("file", "group")
    return (pl.col("reward").max() == pl.col("reward").min()).over(group) & (pl.len().over(group) > 1)


def _longest() -> pl.Expr:
    import polars as pl

    return pl.col("length") >= pl.col("length").quantile(1 - LONGEST, "lower")


def _cut_off() -> pl.Expr:
    import polars as pl

    return pl.col("finish") == "length"


FILTERS = {
    "all": Filter("All", "Every completion.", (), _true),
    "wrong_unanimous": Filter(
        "Wrong and unanimous",
        "Groups whose completions all give the same wrong answer: the gold answer may be wrong.",
        ("correct", "given"),
        _wrong_and_unanimous,
    ),
    "high_invalid": Filter(
        "High reward, yet invalid",
        "In the upper quarter of its round's rewards and above their mean, but the answer is wrong, the form has a "
        "defect, or a check of the reasoning failed: what the rewards pay for by mistake.",
        ("reward", "correct"),
        _high_but_invalid,
        "reward",
    ),
    "no_variance": Filter(
        "No variance",
        "Groups whose completions all have the same reward: nothing is learned from them.",
        ("reward",),
        _no_variance,
    ),
    "longest": Filter("Longest", "The longest hundredth of the run.", ("length",), _longest, "longest"),
    "cut_off": Filter(
        "Cut off", "Completions that reached the longest allowed length.", ("finish",), _cut_off
    ),
}
