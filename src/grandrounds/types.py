"""The vocabulary on a page: the few types that all parts share, in the order in which they arise.

    Case -> Prompt -> Completion, G of them a Group -> Sample, judged once -> ScoredGroup

Each stage makes the next value; none fills in fields of an earlier one. Shapes: G completions of a prompt, P tokens of
a prompt, T tokens of a completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from grandrounds.response.grammar import Response

FinishReason = Literal["stop", "length"]
AnswerKind = Literal["choice", "choices", "text", "number", "label", "none"]
# The tag, and its value, of a case whose publication a run was trained on.
PUBLICATION, TRAINED_ON = "publication", "trained on"


@dataclass(frozen=True)
class Answer:
    """The gold answer of a case.

    kind: "choice" (one of the case's options), "choices" (several of them), "text" (free text), "number", or "label"
        (one of a fixed set of words such as yes / no / maybe); or one that a domain has a matcher for. "none": there is
        no gold answer, and only a reward of the user's own can judge.
    text: the canonical text: the option's text for a choice, the number as written for a number.
    letter: the option's letter, for a choice only. letters: those of several right options. labels: for a label, all
        that the source's cases have: an answer that names several is none.
    synonyms: other texts that count as this answer.
    value, unit, tolerance: for a number; the tolerance is relative (0.01 is one per cent).
    """

    kind: AnswerKind | str
    text: str
    letter: str | None = None
    synonyms: tuple[str, ...] = ()
    value: float | None = None
    unit: str | None = None
    tolerance: float = 0.01
    letters: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Demonstration:
    """A response from which SFT learns the form. Its answer need not be right: demonstrations may be mediocre."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Case:
    """One question with its gold answer.

    id: unique within its source.
    question: text, or chat messages whose last one is the user's.
    gold: the right answer.
    options: letter -> text, in order; empty for open questions.
    option_notes: an option's text -> what the question says beside it (a textbook's line); may lack options.
    context: passages to read before the question (PubMedQA's abstract, a note); may be empty.
    facts: atomic facts or findings of the case, where known; a pertinent negative begins with "no ".
    tags: define subgroups (age band, sex, source, specialty).
    group: cases of one group (a PMID, a patient) are never in both splits; None means that the case has no group.
    demonstration: a response for the SFT warm-up to learn from, or None.
    columns: the source row's other columns, passed to users' reward functions by name.
    """

    id: str
    question: str | tuple[Message, ...]
    gold: Answer
    options: Mapping[str, str] = field(default_factory=dict)
    option_notes: Mapping[str, str] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    demonstration: Demonstration | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseBook:
    """All cases read from one source, split, with what was fitted on the training split.

    train, validation, test: have no group in common. validation: what a run evaluates while it trains, and by which the
        best policy is chosen; where it is empty, the test cases are.
    held_out: further named test sets (the clinic's "unseen phrasings", …); may be empty.
    knowledge: what the source itself knows of candidates and findings, to check reasoning with; or None.
    fitted: JSON-able state (labels, naive Bayes counts, seed): given back to `load_cases`, another file of the
        same format is built into cases exactly as this one was.
    read: rows read from the source. dropped: reason -> number of rows left out. left_out: a line for each of them that
        was left out for what it says. notes: what had to be found out to read the source.
    """

    train: Sequence[Case]
    test: Sequence[Case]
    held_out: Mapping[str, Sequence[Case]] = field(default_factory=dict)
    knowledge: Any = None
    fitted: Mapping[str, Any] = field(default_factory=dict)
    read: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    validation: Sequence[Case] = ()

    @property
    def every(self) -> list[Case]:
        """The cases of all three splits, in this order: train, validation, test."""
        return [*self.train, *self.validation, *self.test]

    @property
    def parts(self) -> dict[str, Sequence[Case]]:
        """The splits by the names that a run's folder gives them; validation cases where there are some."""
        validation = {"validation": self.validation} if self.validation else {}
        return {"train": self.train, **validation, "held_out": self.test}

    @property
    def watched(self) -> list[Case]:
        """The cases that a run may evaluate while it trains: validation or else test cases with a gold answer."""
        return [case for case in self.validation or self.test if case.gold.kind != "none"]


@dataclass(frozen=True)
class Prompt:
    """A case as the policy gets it.

    tokens: int64 [P]. text: the rendered chat template. messages: what was rendered.
    prefilled: the part of the response that the template has already opened ("<think>\\n"), or "".
    """

    case: Case
    tokens: np.ndarray
    text: str
    prefilled: str = ""
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Completion:
    """One sampled response.

    tokens: int64 [T], with the end token if one was sampled.
    logprobs: float32 [T], under the distribution that each token was sampled from (behaviour log-probs).
    text: the decoded tokens without special tokens. It ends with a stop string where one was sampled.
    finish: "stop" for an end token or a stop string, "length" when cut off.
    versions: the oldest and the newest version of the weights that sampled its tokens.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    text: str
    finish: FinishReason
    versions: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Group:
    """One prompt and its G completions. Groups are identified by object, never by prompt text."""

    prompt: Prompt
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Verdict:
    """A judged answer.

    score: 1 or 0; of several right options, intersection over union. layer: the rule that decided ("letter", "synonym",
        "no answer", …).
    given: the answer as understood, for votes: the same for answers that mean the same; or None.
    """

    correct: bool
    score: float
    layer: str
    given: str | None = None


@dataclass(frozen=True)
class Sample:
    """A completion with its prompt, its parsed response and the verdict. It is judged once, and all rewards use that.

    max_new_tokens: the most tokens that the completion could have had.
    """

    prompt: Prompt
    completion: Completion
    response: Response
    verdict: Verdict
    max_new_tokens: int

    @property
    def case(self) -> Case:
        """The case that was asked."""
        return self.prompt.case

    @property
    def text(self) -> str:
        """The decoded completion."""
        return self.completion.text

    @property
    def length(self) -> int:
        """The number of its tokens."""
        return len(self.completion.tokens)

    @property
    def finish(self) -> FinishReason:
        """ "stop", or "length" where it was cut off."""
        return self.completion.finish


@dataclass(frozen=True)
class ScoredGroup:
    """One prompt's samples with their rewards. It is replaced, kept, written and packed as one value.

    scores: component -> its G scores, None where it does not apply. notes: what decided them, by component.
    rewards: float64 [G], after weights and gates.
    logged, extras: what reward functions logged, one number or G values by name.
    advantages: float64 [G], or G arrays of float64 [T]; None before they are computed.
    """

    samples: tuple[Sample, ...]
    scores: Mapping[str, tuple[float | None, ...]]
    rewards: np.ndarray
    notes: tuple[Mapping[str, Any], ...]
    logged: Mapping[str, float] = field(default_factory=dict)
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    advantages: np.ndarray | tuple[np.ndarray, ...] | None = None

    @property
    def prompt(self) -> Prompt:
        """The prompt of all samples."""
        return self.samples[0].prompt

    @property
    def group(self) -> Group:
        """The prompt and its completions alone."""
        return Group(self.prompt, tuple(sample.completion for sample in self.samples))

    def with_advantages(self, advantages: np.ndarray | tuple[np.ndarray, ...]) -> ScoredGroup:
        """The group with its advantages."""
        return replace(self, advantages=advantages)
