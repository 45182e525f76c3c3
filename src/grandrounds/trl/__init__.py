"""TRL's GRPOConfig and GRPOTrainer, as a thin caller of `grandrounds.train`: a script changes one import.

from grandrounds.trl import GRPOConfig, GRPOTrainer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grandrounds.trl.config import GRPOConfig

if TYPE_CHECKING:
    from grandrounds.trl.trainer import GRPOTrainer

__all__ = ["GRPOConfig", "GRPOTrainer"]


def __getattr__(name: str) -> Any:
    # Lazily: the trainer imports torch, which `grandrounds import` does not need.
    if name == "GRPOTrainer":
        from grandrounds.trl.trainer import GRPOTrainer

        return GRPOTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
