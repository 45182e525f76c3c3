"""Finance: questions on reports and their tables as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grandrounds.domain import Domain, Format, columns, lazily


def figures(context: Any, *, at_least: int = 2) -> Callable[[Any], Any]:
    """The share of numbers in the reasoning that the case states or a stated calculation yields, less the others.

    at_least: how many are wanted, where the case has as many.
    """
    from grandrounds.domains.finance.figures import make_figures

    return make_figures(context, at_least)


DOMAIN = Domain(
    name="finance",
    formats={
        "finqa": Format(
            columns("pre_text post_text table qa"),
            lazily(__name__, "published:finqa_case"),
            ("id", "filename"),
        ),
        "convfinqa": Format(
            columns("pre_text post_text table annotation"),
            lazily(__name__, "published:convfinqa_cases"),
            ("id", "filename"),
        ),
        "tatqa": Format(
            columns("table paragraphs questions"), lazily(__name__, "published:tatqa_cases"), ("id",)
        ),
    },
    rewards={"figures": figures},
    called=("financial", "banking"),
    starts_with={"figures": 0.2},
)
