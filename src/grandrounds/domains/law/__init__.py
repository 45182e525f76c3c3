"""Law: questions on holdings and clauses as published."""

from __future__ import annotations

from grandrounds.domain import Domain, Format, columns, lazily

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
)
