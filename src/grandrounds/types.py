"""The vocabulary, on a page: the few types that everything passes, in the order in which they arise.

    Case -> Prompt -> Completion, G of them a Group -> Sample, judged once -> ScoredGroup

Each stage makes the next value; none fills in fields of an earlier one. Shapes: G completions of a prompt,
P tokens of a prompt, T tokens of a completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from grandrounds.response.grammar import Response

FinishReason = Literal["stop", "length"]
AnswerKind = Literal["choice", "text", "number", "label"]
# The tag, and its value, of a case whose publication a run was trained on.
PUBLICATION, TRAINED_ON = "publication", "trained on"


@dataclass(frozen=True)
class Answer:
    """The gold answer of a case.

    kind: "choice" (one of the case's options), "text" (free text), "number", or "label" (one of a fixed
        set of words such as yes / no / maybe); or one that a domain has a matcher for.
    text: the canonical text: the option's text for a choice, the number as written for a number.
    letter: the option's letter, for a choice only.
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


@dataclass(frozen=True)
class Demonstration:
    """A response to learn the form from. Its answer need not be the gold one: demonstrations may be mediocre."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Case:
    """One question with its gold answer: what the policy is asked and what its answer is judged against.

    id: unique within its source.
    question: text, or chat messages whose last one is the user's.
    gold: the right answer.
    options: letter -> text, in order; empty for open questions.
    context: passages to read before the question (PubMedQA's abstract, a note); may be empty.
    facts: atomic facts or findings of the case, where known; a pertinent negative begins with "no ".
    tags: what subgroups are formed by (age band, sex, source, specialty).
    group: cases of one group never fall on both sides of a split (a PMID, a patient); None means the case alone.
    demonstration: a response to learn from in the SFT warm-up, where there is one.
    columns: the source row's other columns, passed to users' reward functions by name.
    """

    id: str
    question: str | tuple[Message, ...]
    gold: Answer
    options: Mapping[str, str] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    demonstration: Demonstration | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseBook:
    """All that was read from one source, split, with what was fitted on the training split.

    train, test: disjoint in their groups.
    held_out: further named test sets (the clinic's "unseen phrasings", …); may be empty.
    knowledge: what the source itself knows of candidates and findings, to check reasoning with; or None.
    fitted: JSON-able state (labels, naive Bayes counts, seed): given back to `load_cases`, another file of the
        same format is built into cases exactly as this one was.
    read: rows read from the source. dropped: reason -> number of rows left out.
    """

    train: Sequence[Case]
    test: Sequence[Case]
    held_out: Mapping[str, Sequence[Case]] = field(default_factory=dict)
    knowledge: Any = None
    fitted: Mapping[str, Any] = field(default_factory=dict)
    read: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A case as the policy sees it.

    tokens: int64 [P]. text: the rendered chat template. messages: what it was rendered from.
    prefilled: what the template itself already opened of the response ("<think>\\n"), or "".
    """

    case: Case
    tokens: np.ndarray
    text: str
    prefilled: str = ""
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Completion:
    """One sampled response.

    tokens: int64 [T], the end token included where one was sampled.
    logprobs: float32 [T], of the distribution each token was actually sampled from (behaviour log-probs).
    text: the tokens decoded, special tokens left out; up to a stop string, which is kept, where one was written.
    finish: "stop" for an end token or a stop string, "length" when cut off.
    versions: the oldest and the newest version of the weights that its tokens were sampled from.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    text: str
    finish: FinishReason
    versions: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Group:
    """One prompt and its G completions. Groups are told apart by identity, never by prompt text."""

    prompt: Prompt
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Verdict:
    """A judged answer.

    score: 1 or 0. layer: what decided ("letter", "synonym", "no answer", …).
    given: what the answer was understood to be, equal for answers that mean the same, for votes; or None.
    """

    correct: bool
    score: float
    layer: str
    given: str | None = None


@dataclass(frozen=True)
class Sample:
    """A completion with its prompt and parsed response; judged once, and everybody reads that judgement.

    max_new_tokens: the most tokens that the completion could have had.
    """

    prompt: Prompt
    completion: Completion
    response: Response
    verdict: Verdict
    max_new_tokens: int

    @property
    def case(self) -> Case:
        """What was asked."""
        return self.prompt.case

    @property
    def text(self) -> str:
        """The completion as decoded."""
        return self.completion.text

    @property
    def length(self) -> int:
        """Its tokens."""
        return len(self.completion.tokens)

    @property
    def finish(self) -> FinishReason:
        """ "stop", or "length" where it was cut off."""
        return self.completion.finish


@dataclass(frozen=True)
class ScoredGroup:
    """One prompt's samples and what they earned; replaced, kept, written and packed as one value.

    scores: component -> its G scores, None where it does not apply. notes: what decided them, by component.
    rewards: float64 [G], weights and gates applied.
    advantages: float64 [G], or G times float64 [T]; None before groups are compared.
    """

    samples: tuple[Sample, ...]
    scores: Mapping[str, tuple[float | None, ...]]
    rewards: np.ndarray
    notes: tuple[Mapping[str, Any], ...]
    advantages: np.ndarray | tuple[np.ndarray, ...] | None = None

    @property
    def prompt(self) -> Prompt:
        """What all of them answer."""
        return self.samples[0].prompt

    @property
    def group(self) -> Group:
        """Prompt and completions alone."""
        return Group(self.prompt, tuple(sample.completion for sample in self.samples))

    def with_advantages(self, advantages: np.ndarray | tuple[np.ndarray, ...]) -> ScoredGroup:
        """The group as compared with the others of its round."""
        return replace(self, advantages=advantages)
