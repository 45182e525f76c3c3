"""Mathematics: word problems and competition problems as published."""

from __future__ import annotations

from grandrounds.domain import Domain, Format, columns, lazily
from grandrounds.domains.mathematics.recognise import boxed, ends_with_hashes, has_ground_truth

DOMAIN = Domain(
    name="mathematics",
    formats={
        "gsm8k": Format(
            columns("question answer"), lazily(__name__, "published:gsm8k_case"), ("id",), ends_with_hashes
        ),
        "verl": Format(
            columns("prompt reward_model"),
            lazily(__name__, "published:verl_case"),
            ("id", "data_source", "ability"),
            has_ground_truth,
        ),
        "math": Format(
            columns("problem solution"),
            lazily(__name__, "published:math_case"),
            ("id", "answer", "level", "type"),
            boxed,
        ),
    },
)
