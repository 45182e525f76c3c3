"""The vocabulary of what is asked: a case, its gold answer, and a demonstration of how to answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

AnswerKind = Literal["choice", "text", "number", "label"]
# The tag, and its value, of a case whose publication a run was trained on.
PUBLICATION, TRAINED_ON = "publication", "trained on"


@dataclass(frozen=True)
class Answer:
    """The gold answer of a case.

    kind: "choice" (one of the case's options), "text" (free text), "number", or "label" (one of a fixed
        set of words such as yes / no / maybe).
    text: the canonical text: the option's text for a choice, the number as written for a number.
    letter: the option's letter, for a choice only.
    synonyms: other texts that count as this answer.
    value, unit, tolerance: for a number; the tolerance is relative (0.01 is one per cent).
    """

    kind: AnswerKind
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
