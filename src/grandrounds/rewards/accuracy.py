"""Accuracy: 1 for the gold answer, 0 for anything else; the note says which layer of matching decided."""

from __future__ import annotations

from grandrounds.rewards.attempt import Attempt, Judge, Mark, Surroundings
from grandrounds.rewards.matching import judge


def accuracy(surroundings: Surroundings) -> Judge:
    """The answer is the gold one."""

    def mark(attempt: Attempt) -> Mark:
        verdict = judge(attempt.response.answer, attempt.case)
        return Mark(verdict.score, verdict.layer)

    return mark
