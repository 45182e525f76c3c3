"""What it means to check a reasoning against knowledge; who knows something implements `Knowledge`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from grandrounds.response.outline import Outline
from grandrounds.types import Case


@dataclass(frozen=True)
class ReasoningCheck:
    """The verdict on one reasoning.

    claims, true_claims: statements that could be checked, and those of them that hold.
    conclusion_follows: the conclusion is the one that the reasoning's own claims support best; None where it
        cannot be told, for there is no conclusion or nothing it could follow from.
    complete: everything was weighed that decides the case.
    false_claims: the statements that do not hold, as written, for the reader.
    """

    claims: int
    true_claims: int
    conclusion_follows: bool | None
    complete: bool
    false_claims: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Strict: something is claimed, all of it is true, it is complete, and the conclusion follows."""
        return (
            self.claims > 0
            and self.true_claims == self.claims
            and self.conclusion_follows is True
            and self.complete
        )

    @property
    def score(self) -> float:
        """In [0, 1], 1 if and only if valid: half for true claims, a quarter each for the other two."""
        if self.claims == 0:
            return 0.0
        follows = self.conclusion_follows is True
        return 0.5 * self.true_claims / self.claims + 0.25 * follows + 0.25 * self.complete


@runtime_checkable
class Knowledge(Protocol):
    """What a source of cases knows of candidates and findings."""

    def baselines(self, cases: Sequence[Case]) -> Mapping[str, Mapping[str, bool]]:
        """Ways to answer without understanding, or simple models: name -> case id -> whether it is right."""
        ...

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check a reasoning's outline for a case."""
        ...
