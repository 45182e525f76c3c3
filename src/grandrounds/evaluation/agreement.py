"""How far a judge agrees with people: by criterion, over all verdicts, and in scores.

    kappa = (observed agreement - agreement by chance) / (1 - agreement by chance)      Cohen 1960,
                                                                                        doi:10.1177/001316446002000104
Intervals are Wilson's. Verdicts on one response are not independent of each other, so the interval over all verdicts
is a little too narrow; that of one criterion over different cases is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grandrounds.cases.read import Row
from grandrounds.errors import CaseError
from grandrounds.evaluation.statistics import wilson
from grandrounds.rewards.judging.judge import Judge
from grandrounds.rewards.judging.rubric import Rubric, score_of
from grandrounds.types import Answer, Case

FORM = (
    "A row has `case` (its id) or `question`, `response`, and `met` (a list of true and false) or `points`."
)


@dataclass(frozen=True)
class Label:
    """What a person says of a response: which criteria it meets, or None where there is only a score."""

    case: Case
    response: str
    rubric: Rubric
    met: tuple[bool, ...] | None
    score: float


@dataclass(frozen=True)
class Share:
    """Verdicts of judge and person: how many, the share that are equal with its interval, and Cohen's kappa.

    kappa: None where both always say the same one thing, so that chance alone agrees.
    """

    criterion: str
    count: int
    agreed: int
    accuracy: float
    low: float
    high: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """criteria: the most frequent first. verdicts: all together, None where the labels have only points.
    score_difference: the mean absolute difference of the scores of `responses` responses."""

    responses: int
    criteria: tuple[Share, ...]
    verdicts: Share | None
    score_difference: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def agreement(judge: Judge, labels: Sequence[Label]) -> Agreement:
    """Ask the judge about every labelled response, and compare. RewardError where it cannot be asked."""
    found = judge.findings([(label.case, label.response, label.rubric) for label in labels])
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    differences = []
    for label, findings in zip(labels, found, strict=True):
        judged = [finding.met for finding in findings]
        differences.append(abs(score_of(label.rubric, judged) - label.score))
        for criterion, yes, person in zip(label.rubric, judged, label.met or (), strict=bool(label.met)):
            pairs.setdefault(criterion.text, []).append((yes, person))
    criteria = [_share(text, of_one) for text, of_one in pairs.items()]
    every = [pair for of_one in pairs.values() for pair in of_one]
    return Agreement(
        responses=len(labels),
        criteria=tuple(sorted(criteria, key=lambda share: -share.count)),
        verdicts=_share("all", every) if every else None,
        score_difference=float(np.mean(differences)),
    )


def _share(criterion: str, pairs: Sequence[tuple[bool, bool]]) -> Share:
    count, agreed = len(pairs), sum(one == other for one, other in pairs)
    low, high = wilson(agreed, count)
    return Share(criterion, count, agreed, agreed / count, low, high, kappa(pairs))


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa of two raters' verdicts; None where agreement by chance is 1."""
    observed = float(np.mean([one == other for one, other in pairs]))
    first, second = (float(np.mean(of_one)) for of_one in zip(*pairs, strict=True))
    chance = first * second + (1 - first) * (1 - second)
    return None if chance == 1 else (observed - chance) / (1 - chance)


def read_labels(
    rows: Sequence[Row], cases: Mapping[str, Case], rubric_of: Callable[[Case], Rubric | None]
) -> list[Label]:
    """Labels of rows. cases: by id, for rows that name one. CaseError for a row that is no label."""
    return [_label(row, cases, rubric_of) for row in rows]


def _label(row: Row, cases: Mapping[str, Case], rubric_of: Callable[[Case], Rubric | None]) -> Label:
    if row.error is not None:
        raise row.error
    response = row.values.get("response")
    if not isinstance(response, str):
        raise CaseError("the row has no text in `response`", where=row.place, hint=FORM)
    case = _case(row, cases)
    rubric = rubric_of(case)
    if rubric is None:
        raise CaseError("the case has no rubric", where=row.place, hint="Leave the row out.")
    if (met := row.values.get("met")) is not None:
        if not isinstance(met, list) or not all(isinstance(one, bool) for one in met):
            raise CaseError("`met` is no list of true and false", where=row.place, hint=FORM)
        if len(met) != len(rubric):
            raise CaseError(
                f"`met` has {len(met)} verdicts for {len(rubric)} criteria",
                where=row.place,
                hint="Give one for each criterion of the rubric, in their order.",
            )
        return Label(case, response, rubric, tuple(met), score_of(rubric, met))
    points = row.values.get("points")
    if isinstance(points, bool) or not isinstance(points, (int, float)):
        raise CaseError("the row has neither `met` nor a number in `points`", where=row.place, hint=FORM)
    possible = sum(max(0.0, criterion.points) for criterion in rubric)
    return Label(case, response, rubric, None, min(1.0, max(0.0, points / possible)))


def _case(row: Row, cases: Mapping[str, Case]) -> Case:
    values = row.values
    if (identity := values.get("case")) is not None:
        if str(identity) not in cases:
            raise CaseError(
                f"the recipe's cases have none with the id `{identity}`",
                where=row.place,
                hint="Correct it, or give the row a `question` instead.",
            )
        return cases[str(identity)]
    question, answer, context = (values.get(name) for name in ("question", "answer", "context"))
    if not isinstance(question, str) or not question.strip():
        raise CaseError("the row has neither `case` nor a text in `question`", where=row.place, hint=FORM)
    passages = [context] if isinstance(context, str) else context or []
    gold = Answer("none", "") if answer is None else Answer("text", str(answer))
    return Case(row.place, question, gold, context=tuple(map(str, passages)), columns=values)
