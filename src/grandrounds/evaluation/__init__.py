"""Measures how good a policy is, and whether two policies differ. Imports no torch."""

from grandrounds.evaluation.compare import Comparison, Pair, compare
from grandrounds.evaluation.evaluate import evaluate
from grandrounds.evaluation.result import Answered, Baseline, CaseResult, Evaluation, Lengths, Share, Subgroup

__all__ = [
    "Answered",
    "Baseline",
    "CaseResult",
    "Comparison",
    "Evaluation",
    "Lengths",
    "Pair",
    "Share",
    "Subgroup",
    "compare",
    "evaluate",
]
