"""Reports what a source of cases holds and what is wrong with it, before a run is spent on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grandrounds.cases.ask import ask, lettered_gold
from grandrounds.cases.concerns import concerns
from grandrounds.cases.identifiers import Suspicion, find_identifiers, hide_identifiers
from grandrounds.cases.overlap import MOST_PAIRS, Leakage, Overlap, asked_text, duplicates, leakage
from grandrounds.cases.shortcuts import Shortcut, shortcuts
from grandrounds.recipe import PromptRecipe
from grandrounds.shares import percent
from grandrounds.types import Case, CaseBook

# Texts -> their lengths, in the caller's unit.
CountLengths = Callable[[Sequence[str]], Sequence[int]]
MOST_ANSWERS = 10
# Tags with more values than this identify cases and do not group them.
MOST_VALUES = 40
# Cases shown as the policy sees them.
SHOWN = 3


@dataclass(frozen=True)
class Spread:
    """Statistics of text lengths, in the report's unit."""

    mean: float
    median: int
    p95: int
    longest: int


@dataclass(frozen=True)
class Shown:
    """A case as the policy sees it, and what its answer is judged against."""

    id: str
    prompt: str
    gold: str
    judged: str


@dataclass(frozen=True)
class CasesReport:
    """The report on a source.

    count: rows read. splits: split -> cases kept. dropped: reason -> rows left out. kinds: answer kind -> cases.
    unit: what `lengths` counts, "words" or "tokens". letters, answers: how often each is the gold answer; answers
    holds the most frequent of `distinct_answers`. tags: tag -> value -> cases. duplicates: the number of cases that
    copy an earlier one; duplicate_pairs holds some. concerns: what is likely wrong, a sentence or two each. shown: a
    few cases as the policy sees them. left_out: a line for each bad row.
    notes: what had to be found out to read the source.
    """

    count: int
    format: str
    splits: Mapping[str, int]
    dropped: Mapping[str, int]
    kinds: Mapping[str, int]
    unit: str
    lengths: Mapping[str, Spread]
    letters: Mapping[str, int]
    answers: Mapping[str, int]
    distinct_answers: int
    tags: Mapping[str, Mapping[str, int]]
    duplicates: int
    duplicate_pairs: tuple[Overlap, ...]
    leakage: Leakage
    shortcuts: tuple[Shortcut, ...]
    concerns: tuple[str, ...]
    shown: tuple[Shown, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    identifiers: Mapping[str, Suspicion]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self)


def inspect_cases(book: CaseBook, *, lengths: CountLengths | None = None) -> CasesReport:
    """Report on a book. lengths: counts tokens; without it, lengths are in words.

    Answers, shortcuts and duplicates come from training, validation and test cases. Held-out sets are only counted.
    """
    cases = book.every
    found = tuple(shortcuts(book))
    answers = Counter(case.gold.text for case in cases)
    copies = duplicates(cases)
    return CasesReport(
        count=book.read,
        format=str(book.fitted.get("format", "")),
        splits={
            "train": len(book.train),
            **({"validation": len(book.validation)} if book.validation else {}),
            "test": len(book.test),
            **{name: len(held) for name, held in book.held_out.items()},
        },
        dropped=dict(book.dropped),
        kinds=dict(Counter(case.gold.kind for case in cases)),
        unit="tokens" if lengths else "words",
        lengths=_lengths(cases, lengths or _words),
        letters=dict(sorted(Counter(case.gold.letter for case in cases if case.gold.letter).items())),
        answers=dict(answers.most_common(MOST_ANSWERS)),
        distinct_answers=len(answers),
        tags=_tags(cases),
        duplicates=len(copies),
        duplicate_pairs=tuple(copies[:MOST_PAIRS]),
        leakage=leakage(book.train, book.test),
        shortcuts=found,
        concerns=concerns(book, found),
        shown=tuple(_shown(cases)),
        left_out=tuple(book.left_out),
        notes=tuple(book.notes),
        identifiers=find_identifiers((case.id, _everything(case)) for case in cases),
    )


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def _lengths(cases: Sequence[Case], count: CountLengths) -> dict[str, Spread]:
    bare = PromptRecipe(system="")
    prompts = ["\n".join(message.content for message in ask(case, bare)) for case in cases]
    shown = [case.demonstration.reasoning for case in cases if case.demonstration is not None]
    found = {"question": prompts, "demonstration": shown}
    return {name: _spread(count(texts)) for name, texts in found.items() if texts}


def _spread(values: Sequence[int]) -> Spread:
    array = np.asarray(values)
    return Spread(
        mean=round(float(array.mean()), 1),
        median=int(np.median(array)),
        p95=int(np.percentile(array, 95)),
        longest=int(array.max()),
    )


def _tags(cases: Iterable[Case]) -> dict[str, dict[str, int]]:
    tags: dict[str, Counter[str]] = {}
    for case in cases:
        for name, value in case.tags.items():
            tags.setdefault(name, Counter())[value] += 1
    return {name: dict(values.most_common()) for name, values in tags.items() if len(values) <= MOST_VALUES}


def _shown(cases: Sequence[Case]) -> Iterable[Shown]:
    """A few cases, drawn by a hash of their ids: nobody has picked them."""
    order = sorted(cases, key=lambda case: hashlib.blake2b(case.id.encode(), digest_size=8).digest())
    for case in order[:SHOWN]:
        messages = ask(case, PromptRecipe(system=""))
        said = [
            message.content if len(messages) == 1 else f"{message.role}: {message.content}"
            for message in messages
        ]
        prompt, gold = hide_identifiers("\n".join(said)), hide_identifiers(lettered_gold(case))
        yield Shown(case.id, prompt, gold, _judged(case))


def _judged(case: Case) -> str:
    """How an answer is compared with the gold one, in words."""
    gold = case.gold
    if gold.kind == "number":
        unit = f", in {gold.unit}" if gold.unit else ""
        return f"a number{unit}, " + (
            "exactly" if gold.tolerance < 1e-3 else f"within {percent(gold.tolerance)}"
        )
    words = {
        "choice": "one of the options, by letter or text",
        "choices": "all right options and no other, by letters or texts",
        "label": "one of a few labels",
        "text": "text, with abbreviations, other names and close spellings",
        "none": "by no gold answer: by a reward of yours",
    }
    others = f", or as one of {len(gold.synonyms)} synonyms" if gold.synonyms else ""
    return words.get(gold.kind, f"by the matcher `{gold.kind}`") + others


def _everything(case: Case) -> str:
    """All text of a case in which an identifier might be."""
    shown = case.demonstration.reasoning if case.demonstration else ""
    columns = (value for value in case.columns.values() if isinstance(value, str))
    options = (*case.options.values(), *case.option_notes.values())
    return "\n".join((asked_text(case), *options, case.gold.text, shown, *case.facts, *columns))
