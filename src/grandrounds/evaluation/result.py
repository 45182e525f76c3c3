"""The types of an evaluation: each answer, each case, and their totals. All of them can be written as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from grandrounds.behaviour.trace import Span
from grandrounds.cases.ask import shown_options
from grandrounds.cases.check import ReasoningCheck
from grandrounds.evaluation.statistics import Interval, Share, wilson
from grandrounds.evaluation.trials import Faithfulness, Robustness
from grandrounds.types import PUBLICATION, TRAINED_ON

# Subgroups with fewer cases are flagged in the report: their intervals are some 35 points wide.
SMALL = 30


@dataclass(frozen=True)
class Answered:
    """One judged response.

    answer: the text inside the answer tags. given: the answer as understood. layer: the rule that decided.
    defects: of form, by name. length: tokens. finish: "stop", or "length" where it was cut off.
    consistent: the answer is what the reasoning concludes; None without a reasoning.
    evidence: score of the cited findings; None without a reasoning or where the case has no facts.
    invented: cited findings that the case does not have, normalised.
    check: the check of the reasoning against knowledge; None without a reasoning or without knowledge.
    behaviours: behaviour -> the characters of the reasoning that show it, none where it is not found; empty without a
        reasoning.
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
    behaviours: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    def to_json(self, *, responses: bool = True) -> dict[str, Any]:
        """All fields. Without `responses`, the model's text and reasoning are left out."""
        row = asdict(self)
        row["check"] = None if self.check is None else {**row["check"], "valid": self.check.valid}
        if not responses:
            for name in ("text", "reasoning"):
                del row[name]
        return row


@dataclass(frozen=True)
class CaseResult:
    """One case and the policy's answers to it, in the order they were sampled.

    question: with its context. group: cases of one group are not independent of each other; None without a group.
    """

    id: str
    question: str
    options: Mapping[str, str]
    gold: str
    tags: Mapping[str, str]
    group: str | None
    answers: tuple[Answered, ...]
    option_notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown_options(self) -> Mapping[str, str]:
        """Letter -> the option with its note, as the policy read it."""
        return shown_options(self.options, self.option_notes)

    @property
    def share_correct(self) -> float:
        """The share of right answers."""
        return sum(answer.correct for answer in self.answers) / len(self.answers)

    @property
    def first(self) -> Answered:
        """The first answer, which is shown where only one is."""
        return self.answers[0]

    def to_json(self, *, responses: bool = True) -> dict[str, Any]:
        """See `Answered.to_json`."""
        row = {name: getattr(self, name) for name in ("id", "question", "gold", "group")}
        answers = [answer.to_json(responses=responses) for answer in self.answers]
        return {**row, "options": dict(self.shown_options), "tags": dict(self.tags), "answers": answers}


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
        """Whether the subgroup is too small for any conclusion."""
        return self.count < SMALL


@dataclass(frozen=True)
class Baseline:
    """A method without a language model that answered the same cases. correct: case id -> whether it was right."""

    name: str
    correct: Mapping[str, bool] = field(repr=False)

    @property
    def accuracy(self) -> Share:
        """Its accuracy on these cases."""
        count, right = len(self.correct), sum(self.correct.values())
        return Share(right / count, count, wilson(right, count))

    def to_json(self) -> dict[str, Any]:
        """Its accuracy, under the same names as a policy's."""
        return _flat("accuracy", self.accuracy)


@dataclass(frozen=True)
class Evaluation:
    """The result of one policy on one set of cases. Shares are None where they do not apply.

    count: cases evaluated. samples: answers to each; 1 is greedy. skipped: reason -> number of cases not asked.
    accuracy: of all answers. answered: an answer was given at all. reasoned: a reasoning was shown.
    format: exactly one reasoning, then one answer, and nothing else.
    consistency, evidence: of answers with a reasoning; evidence is a mean score.
    validity_given_correct: of the right answers of a policy that reasons, those with a valid reasoning.
    behaviours: behaviour -> the share of answers with a reasoning that show it; empty without a reasoning.
    maj_at_k, pass_at_k: k -> share; empty for one sample.
    baselines: methods without a language model, on the same cases.
    faithfulness: what became of answers when case or reasoning were changed; None where that was not asked for.
    robustness: what became of answers when the options were changed; None where that was not asked for.
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
    behaviours: Mapping[str, Share] = field(default_factory=dict)
    faithfulness: Faithfulness | None = None
    robustness: Robustness | None = None

    @property
    def trained_on(self) -> int:
        """Cases whose publications the run was trained on. The source tags them where it can tell."""
        return sum(case.tags.get(PUBLICATION) == TRAINED_ON for case in self.cases)

    def to_json(self, *, cases: bool = True, responses: bool = True) -> dict[str, Any]:
        """Numbers by name. `cases` adds a record of each case, `responses` the model's text in that record."""
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
            "behaviours": {name: asdict(share) for name, share in self.behaviours.items()},
        }
        if self.faithfulness is not None:
            row["faithfulness"] = self.faithfulness.to_json(cases=cases)
        if self.robustness is not None:
            row["robustness"] = self.robustness.to_json(cases=cases)
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
    """A share's value under its own name, with its denominator and interval."""
    if share is None:
        return {name: None, f"{name}_of": 0, f"{name}_interval": None}
    return {name: share.value, f"{name}_of": share.of, f"{name}_interval": list(share.interval)}
