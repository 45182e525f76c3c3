"""Reports what a source of cases holds and what is wrong with it, before a run is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grandrounds.cases.ask import ask
from grandrounds.cases.identifiers import Suspicion, find_identifiers
from grandrounds.cases.overlap import MOST_PAIRS, Leakage, Pair, asked_text, duplicates, leakage
from grandrounds.recipe import PromptRecipe
from grandrounds.types import Case, CaseBook

# Texts -> their lengths, in the caller's unit.
Lengths = Callable[[Sequence[str]], Sequence[int]]
MOST_ANSWERS = 10
# Tags with more values than this identify cases and do not group them.
MOST_VALUES = 40


@dataclass(frozen=True)
class Spread:
    """Statistics of text lengths, in the report's unit."""

    mean: float
    median: int
    p95: int
    longest: int


@dataclass(frozen=True)
class Shortcut:
    """A way to answer without understanding. accuracy: on `cases` cases. detail: what it answers, where that varies."""

    name: str
    accuracy: float
    cases: int
    detail: str = ""


@dataclass(frozen=True)
class CasesReport:
    """The report on a source.

    count: rows read. splits: split -> cases kept. dropped: reason -> rows left out. kinds: answer kind -> cases.
    unit: what `lengths` counts, "words" or "tokens". letters, answers: how often each is the gold answer; answers holds
    the most frequent of `distinct_answers`. tags: tag -> value -> cases. duplicates: the number of cases that copy an
    earlier one; duplicate_pairs holds some.
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
    duplicate_pairs: tuple[Pair, ...]
    leakage: Leakage
    shortcuts: tuple[Shortcut, ...]
    identifiers: Mapping[str, Suspicion]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self)


def inspect_cases(book: CaseBook, *, lengths: Lengths | None = None) -> CasesReport:
    """Report on a book. lengths: counts tokens; without it, lengths are in words.

    Answers, shortcuts and duplicates come from the training and test splits. Held-out sets are only counted.
    """
    cases = [*book.train, *book.test]
    answers = Counter(case.gold.text for case in cases)
    copies = duplicates(cases)
    return CasesReport(
        count=book.read,
        format=str(book.fitted.get("format", "")),
        splits={
            "train": len(book.train),
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
        shortcuts=tuple(_shortcuts(book, cases)),
        identifiers=find_identifiers((case.id, _everything(case)) for case in cases),
    )


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def _lengths(cases: Sequence[Case], count: Lengths) -> dict[str, Spread]:
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


def _shortcuts(book: CaseBook, cases: Sequence[Case]) -> Iterable[Shortcut]:
    chosen = [case for case in cases if case.gold.kind == "choice" and case.options]
    if chosen:
        yield Shortcut("chance", float(np.mean([1 / len(case.options) for case in chosen])), len(chosen))
        letter, count = Counter(case.gold.letter for case in chosen).most_common(1)[0]
        yield Shortcut("majority letter", count / len(chosen), len(chosen), f"always {letter}")
        right = float(np.mean([_longest_option(case) for case in chosen]))
        yield Shortcut("longest option", right, len(chosen))
    others = [case.gold.text for case in cases if case.gold.kind in ("label", "text")]
    if others:
        text, count = Counter(others).most_common(1)[0]
        yield Shortcut("majority answer", count / len(others), len(others), f"always {text}")
    yield from _source_shortcuts(book)


def _source_shortcuts(book: CaseBook) -> Iterable[Shortcut]:
    """The baselines of the source's own knowledge, on the test split."""
    if book.knowledge is None or not book.test:
        return
    for name, correct in book.knowledge.baselines(book.test).items():
        yield Shortcut(name, sum(correct.values()) / len(correct), len(correct), "on the test split")


def _longest_option(case: Case) -> float:
    """1 where the longest option is right; a fraction where several are equally long."""
    longest = max(map(len, case.options.values()))
    longest_ones = [letter for letter, text in case.options.items() if len(text) == longest]
    return (case.gold.letter in longest_ones) / len(longest_ones)


def _everything(case: Case) -> str:
    """All text of a case in which an identifier might be."""
    shown = case.demonstration.reasoning if case.demonstration else ""
    columns = (value for value in case.columns.values() if isinstance(value, str))
    return "\n".join((asked_text(case), *case.options.values(), case.gold.text, shown, *case.facts, *columns))
