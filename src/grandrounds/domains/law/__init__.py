"""Law: questions on holdings and clauses as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grandrounds.domain import Domain, Format, columns, lazily


def citations(context: Any, *, at_least: int = 1) -> Callable[[Any], Any]:
    """The share of cited sections, clauses, articles and cases that the case has, less the invented ones.

    at_least: how many are wanted, where the case has as many.
    """
    from grandrounds.domains.law.citations import make_citations

    return make_citations(context, at_least)


DOMAIN = Domain(
    name="law",
    formats={
        "casehold": Format(
            columns("citing_prompt holding_0 holding_1 label"),
            lazily(__name__, "published:casehold_case"),
            ("id",),
        ),
        "legalbench": Format(
            columns("text answer index"), lazily(__name__, "published:legalbench_case"), ("id",)
        ),
    },
    rewards={"citations": citations},
    called=("legal",),
    starts_with={"citations": 0.2},
)
