"""Mathematics: word problems and competition problems as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grandrounds.domain import Domain, Format, columns, lazily
from grandrounds.domains.mathematics.recognise import boxed, ends_with_hashes, has_ground_truth


def math(context: Any, *, seconds: float = 5.0) -> Callable[[Any], Any]:
    """1 where the answer is mathematically equal to the gold answer, else 0; seconds: for one comparison."""
    from grandrounds.domains.mathematics.math_reward import make_math

    return make_math(context, seconds)


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
    rewards={"math": math},
    called=("math", "maths"),
    starts_with={"math": 1.0},
)
