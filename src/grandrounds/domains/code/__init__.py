"""Code: tasks as published. They have no gold answer: their tests are columns, which the reward `unit_tests` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from grandrounds.domain import Domain, Format, columns, lazily


def unit_tests(
    context: Any,
    *,
    partial: bool = False,
    sandbox: str = "auto",
    seconds: float = 10.0,
    memory_mb: int = 512,
    image: str = "python:3-slim",
) -> Callable[[Any], Any]:
    """1 where the program in the answer passes all tests of its case, else 0.

    partial: the share of the tests that pass. seconds, memory_mb: what a program may take. sandbox: `auto` is
    bubblewrap, Docker or Podman, whichever is there; `unsafe` is none. image: of a container; it is not downloaded.
    """
    from grandrounds.domains.code.unit_tests import make_unit_tests

    return make_unit_tests(partial, sandbox, seconds, memory_mb, image)


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
    rewards={"unit_tests": unit_tests},
    called=("coding", "programming"),
    starts_with={"unit_tests": 1.0},
    needs=lazily(__name__, "runtimes:sandbox_here"),
    solution=lazily(__name__, "attacks:solution_of"),
    recipes=Path(__file__).parent / "recipes",
)
