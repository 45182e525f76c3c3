"""The vocabulary of an evaluation: each answer, each case, and what they add up to; all of it JSON-able."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from grandrounds.cases.check import ReasoningCheck
from grandrounds.evaluation.statistics import Interval, wilson
from grandrounds.types import PUBLICATION, TRAINED_ON

# A subgroup smaller than this is reported and flagged: its interval is some 35 points wide.
SMALL = 30


@dataclass(frozen=True)
class Share:
    """A proportion (or a mean of scores in [0, 1]), what it is a share of, and its interval.

    interval: Wilson's for proportions, of the effective number of answers where cases have several.
    """

    value: float
    of: int
    interval: Interval


@dataclass(frozen=True)
class Answered:
    """One response, judged.

    answer: the text inside the answer tags. given: what it was understood to be. layer: what decided.
    defects: of form, by name. length: tokens. finish: "stop", or "length" where it was cut off.
    consistent: the answer is what the reasoning concludes; None without a reasoning.
    evidence: score of the findings cited; None without a reasoning or where the case has no facts.
    invented: findings cited that the case does not have, normalised.
    check: the reasoning checked against knowledge; None without a reasoning or without knowledge.
    """

    answer: str | None
    given: str | None
    correct: bool
    layer: str
    reasoning: str | None
    text: str
    defects: tuple[str, ...]
    length: int
    finish: str
    consistent: bool | None = None
    evidence: float | None = None
    invented: tuple[str, ...] = ()
    check: ReasoningCheck | None = None

    def to_json(self, *, responses: bool = True) -> dict[str, Any]:
        """Everything; without `responses`, all but the model's own words."""
        row = asdict(self)
        row["check"] = None if self.check is None else {**row["check"], "valid": self.check.valid}
        if not responses:
            for name in ("text", "reasoning"):
                del row[name]
        return row


@dataclass(frozen=True)
class CaseResult:
    """One case and the policy's answers to it, in the order they were sampled.

    question: with its context. group: cases of one group are not independent of each other; or None.
    """

    id: str
    question: str
    options: Mapping[str, str]
    gold: str
    tags: Mapping[str, str]
    group: str | None
    answers: tuple[Answered, ...]

    @property
    def share_correct(self) -> float:
        """Of its answers."""
        return sum(answer.correct for answer in self.answers) / len(self.answers)

    @property
    def first(self) -> Answered:
        """The answer that is shown where one is."""
        return self.answers[0]

    def to_json(self, *, responses: bool = True) -> dict[str, Any]:
        """See `Answered.to_json`."""
        row = {name: getattr(self, name) for name in ("id", "question", "gold", "group")}
        answers = [answer.to_json(responses=responses) for answer in self.answers]
        return {**row, "options": dict(self.options), "tags": dict(self.tags), "answers": answers}


@dataclass(frozen=True)
class Lengths:
    """Tokens per response, and the share that was cut off."""

    mean: float
    p50: float
    p95: float
    cut_off: float


@dataclass(frozen=True)
class Subgroup:
    """The cases with one value of a tag."""

    tag: str
    value: str
    count: int
    accuracy: float
    interval: Interval

    @property
    def small(self) -> bool:
        """Too small to conclude anything from."""
        return self.count < SMALL


@dataclass(frozen=True)
class Baseline:
    """Something without a language model that answered the same cases. correct: case id -> whether it is right."""

    name: str
    correct: Mapping[str, bool] = field(repr=False)

    @property
    def accuracy(self) -> Share:
        """Of these cases."""
        count, right = len(self.correct), sum(self.correct.values())
        return Share(right / count, count, wilson(right, count))

    def to_json(self) -> dict[str, Any]:
        """Its accuracy, named as a policy's."""
        return _flat("accuracy", self.accuracy)


@dataclass(frozen=True)
class Evaluation:
    """What one policy did on one set of cases. Shares are None where they do not apply.

    count: cases evaluated. samples: answers to each; 1 is greedy. skipped: reason -> cases not asked.
    accuracy: of all answers. answered: an answer was given at all. reasoned: a reasoning was shown.
    format: exactly one reasoning, then one answer, and nothing else.
    consistency, evidence: of answers with a reasoning; evidence is a mean score.
    validity_given_correct: of the right answers of a policy that reasons, those with a valid reasoning.
    maj_at_k, pass_at_k: k -> share; empty for one sample.
    baselines: on these very cases.
    """

    count: int
    samples: int
    skipped: Mapping[str, int]
    accuracy: Share
    answered: Share
    reasoned: Share
    format: Share
    consistency: Share | None
    evidence: Share | None
    validity_given_correct: Share | None
    maj_at_k: Mapping[int, float]
    pass_at_k: Mapping[int, float]
    lengths: Lengths
    subgroups: tuple[Subgroup, ...]
    cases: tuple[CaseResult, ...] = field(repr=False)
    baselines: tuple[Baseline, ...] = ()

    @property
    def trained_on(self) -> int:
        """Cases of publications that the run was trained on; the source tags them where it can tell."""
        return sum(case.tags.get(PUBLICATION) == TRAINED_ON for case in self.cases)

    def to_json(self, *, cases: bool = True, responses: bool = True) -> dict[str, Any]:
        """Numbers by name; `cases` adds each case's record, `responses` the model's own words in it."""
        row: dict[str, Any] = {
            "count": self.count,
            "samples": self.samples,
            "skipped": dict(self.skipped),
            "accuracy": self.accuracy.value,
            "accuracy_interval": list(self.accuracy.interval),
            "answer_rate": self.answered.value,
            "reasoning_rate": self.reasoned.value,
            "format_rate": self.format.value,
            "format_rate_interval": list(self.format.interval),
            **_flat("consistency", self.consistency),
            **_flat("evidence", self.evidence),
            **_flat("validity_given_correct", self.validity_given_correct),
            "maj_at_k": {str(k): value for k, value in self.maj_at_k.items()},
            "pass_at_k": {str(k): value for k, value in self.pass_at_k.items()},
            "lengths": asdict(self.lengths),
            "subgroups": self._subgroups_json(),
            "trained_on": self.trained_on,
            "baselines": {baseline.name: baseline.to_json() for baseline in self.baselines},
        }
        if cases:
            row["cases"] = [case.to_json(responses=responses) for case in self.cases]
        return row

    def _subgroups_json(self) -> dict[str, dict[str, Any]]:
        tags: dict[str, dict[str, Any]] = defaultdict(dict)
        for group in self.subgroups:
            tags[group.tag][group.value] = {
                "count": group.count,
                "accuracy": group.accuracy,
                "accuracy_interval": list(group.interval),
                "small": group.small,
            }
        return dict(tags)


def _flat(name: str, share: Share | None) -> dict[str, Any]:
    """The value under its own name, its denominator and interval beside it."""
    if share is None:
        return {name: None, f"{name}_of": 0, f"{name}_interval": None}
    return {name: share.value, f"{name}_of": share.of, f"{name}_interval": list(share.interval)}
