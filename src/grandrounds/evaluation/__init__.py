"""Measures how good a policy is, and whether two policies differ. Imports no torch."""

from grandrounds.evaluation.compare import Comparison, Pair, compare
from grandrounds.evaluation.evaluate import evaluate
from grandrounds.evaluation.result import Answered, Baseline, CaseResult, Evaluation, Lengths, Subgroup
from grandrounds.evaluation.statistics import Share
from grandrounds.evaluation.trials import Faithfulness, Trial

__all__ = [
    "Answered",
    "Baseline",
    "CaseResult",
    "Comparison",
    "Evaluation",
    "Faithfulness",
    "Lengths",
    "Pair",
    "Share",
    "Subgroup",
    "Trial",
    "compare",
    "evaluate",
]
