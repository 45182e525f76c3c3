"""GRPOConfig: TRL's fields by name, with TRL's defaults."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

from grandrounds.errors import RecipeError
from grandrounds.loading import did_you_mean
from grandrounds.trl.training_fields import FIELDS, FORMER


class GRPOConfig:
    """The settings of a GRPOTrainer. Any field of TRL 1.16's GRPOConfig, by name; RecipeError for another name.

    What is set of fields that are refused here is said by the trainer, and not before.
    """

    def __init__(self, output_dir: str | None = None, **fields: Any) -> None:
        self._set: set[str] = set()
        for name, field in FIELDS.items():
            object.__setattr__(self, name, field.default)
        given = fields if output_dir is None else {"output_dir": output_dir, **fields}
        for name, value in given.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            require_field(name, FIELDS)
            self._set.add(name)
        object.__setattr__(self, name, plain(value))

    if TYPE_CHECKING:
        # Fields are set by name, which a type checker does not see.
        def __getattr__(self, name: str) -> Any: ...

    @property
    def given(self) -> frozenset[str]:
        """The fields that the script has set."""
        return frozenset(self._set)

    def to_dict(self) -> dict[str, Any]:
        """Every field with its value."""
        return {name: getattr(self, name) for name in FIELDS}

    def __repr__(self) -> str:
        return f"GRPOConfig({', '.join(f'{name}={getattr(self, name)!r}' for name in FIELDS if name in self._set)})"


def plain(value: Any) -> Any:
    """An enumeration's value instead of its member, as transformers' own strategies are given."""
    return value.value if isinstance(value, Enum) else value


def require_field(name: str, known: Iterable[str]) -> None:
    """RecipeError for a name that GRPOConfig does not have."""
    if name in known:
        return
    raise RecipeError(
        f"GRPOConfig has no field `{name}`",
        where=f"GRPOConfig({name}=…)",
        hint=FORMER.get(name)
        or did_you_mean(name, known)
        or "TRL 1.16 has no such field either. Leave it out.",
    )
