"""Grand Rounds: GRPO for language models that show their reasoning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grandrounds._version import __version__

__all__ = [
    "Plan",
    "Recipe",
    "Run",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "load_recipe",
    "plan",
    "report_run",
    "resume",
    "train",
]

if TYPE_CHECKING:
    from grandrounds.api import (
        Plan,
        Recipe,
        Run,
        compare,
        evaluate,
        export,
        load_recipe,
        plan,
        report_run,
        resume,
        train,
    )


def __getattr__(name: str) -> Any:
    # Lazily: torch takes seconds to import, and `grandrounds --help` needs none of it.
    if name in __all__:
        from grandrounds import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
