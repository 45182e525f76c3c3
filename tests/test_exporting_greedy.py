"""How an export's tokens are compared with the policy's: every one, ties counted, anything else an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from grandrounds.errors import PolicyError
from grandrounds.exporting import greedy
from grandrounds.types import Answer, Case, Prompt


class Scripted(greedy.Loaded):
    """Continues rows by a script: prompt -> its tokens; log-probabilities are `apart` apart."""

    def greedy(self, rows: Any, longest: int) -> list[list[int]]:
        return [self.model[row[0]][len(row) - 1 :][:longest] for row in rows]

    def difference(self, row: Any, one: int, other: int) -> float:
        assert self.model[row[0]][len(row) - 1] == one
        return self.tokenizer[len(row) - 1]


class Shown:
    """A tokenizer that also holds differences by position."""

    def __init__(self, apart: dict[int, float]) -> None:
        self.apart = apart

    def __getitem__(self, place: int) -> float:
        return self.apart[place]

    def decode(self, tokens: list[int]) -> str:
        return f"<{tokens[0]}>"


def scripted(made: dict[int, list[int]], apart: dict[int, float]) -> Scripted:
    return Scripted(made, Shown(apart), frozenset([0]))


def expected(first: int, tokens: list[int]) -> greedy.Expected:
    case = Case(id=f"c{first}", question="?", gold=Answer("text", "x"))
    return greedy.Expected(Prompt(case, np.array([first]), "?"), tuple(tokens))


def test_ties_are_counted_and_everything_behind_them_is_compared() -> None:
    wanted = [expected(1, [5, 6, 7, 8, 0]), expected(2, [5, 5, 0])]
    made = {1: [5, 9, 7, 4, 0], 2: [5, 5, 0]}
    check = greedy.compare(scripted(made, {1: 4e-4, 3: 4e-4}), wanted, "model")
    assert (check.prompts, check.tokens, check.ties) == (2, 8, 2)
    assert "but for 2 ties" in str(check)
    with pytest.raises(PolicyError, match="it says '<4>' where the policy says '<8>'") as error:
        greedy.compare(scripted(made, {1: 4e-4, 3: 0.01}), wanted, "model")
    assert error.value.where == "prompt 1 (case c1), token 4 of the response"


def test_an_end_where_the_policy_goes_on_is_a_difference_and_a_nan_is_no_tie() -> None:
    with pytest.raises(PolicyError, match="token"):
        greedy.compare(scripted({1: [5, 0]}, {1: 3.0}), [expected(1, [5, 6, 0])], "model")
    with pytest.raises(PolicyError):
        greedy.compare(scripted({1: [5, 7, 0]}, {1: float("nan")}), [expected(1, [5, 6, 0])], "model")
