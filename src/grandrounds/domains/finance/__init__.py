"""Finance: questions on reports and their tables as published."""

from __future__ import annotations

from grandrounds.domain import Domain, Format, columns, lazily

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
)
