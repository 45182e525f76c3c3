"""Code: tasks as published. They have no gold answer: their tests are columns, for a reward of yours that runs them."""

from __future__ import annotations

from grandrounds.domain import Domain, Format, columns, lazily

DOMAIN = Domain(
    name="code",
    formats={
        "humaneval": Format(
            columns("task_id prompt test entry_point"), lazily(__name__, "published:humaneval_case")
        ),
        "mbpp": Format(
            columns("task_id text test_list", "task_id prompt test_list"),
            lazily(__name__, "published:mbpp_case"),
        ),
        "apps": Format(
            columns("question solutions input_output"), lazily(__name__, "published:apps_case"), ("id",)
        ),
    },
)
