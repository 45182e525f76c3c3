"""What is likely wrong with cases that can be read: said before a run is spent on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from grandrounds.cases.overlap import asked_text
from grandrounds.cases.shortcuts import Shortcut, label_shift, shortcut_warnings
from grandrounds.shares import percent
from grandrounds.types import Case, CaseBook

# A response hardly ever has the very words of a longer gold answer.
LONG_WORDS = 20
# Columns that most likely belong to the question.
_PASSAGES = (
    "passage",
    "article",
    "abstract",
    "note",
    "document",
    "paragraph",
    "background",
    "text",
    "vignette",
    "story",
)
_WORKED = re.compile(r"####|\\boxed|<<[^<>]*>>")
_LATEX = re.compile(r"\\(?:d?frac|sqrt|text|left|pi|cdot|times)\b|\^\{")
_IMAGE = re.compile(
    r"\b(?:shown|seen|depicted|pictured|given)\s+(?:in|on)\s+(?:the\s+|this\s+)?(?:image|figure|picture|photo\w*|radiograph|"
    r"x-?ray|diagram|graph)\b|\b(?:image|figure|picture|photograph|diagram)\s+(?:below|above)\b|<image>",
    re.IGNORECASE,
)


def concerns(book: CaseBook, shortcuts: Sequence[Shortcut]) -> tuple[str, ...]:
    """A sentence or two for each thing that is likely wrong, with how many cases and what to do."""
    cases = book.every
    return tuple([*_answers(cases), *_questions(cases), *shortcut_warnings(book, shortcuts), *_shift(book)])


def _answers(cases: Sequence[Case]) -> Iterable[str]:
    texts = [case for case in cases if case.gold.kind == "text"]
    worked = [case for case in texts if _WORKED.search(case.gold.text)]
    if worked:
        yield (
            f"{_named(worked)}: the gold answer is a worked solution, which no response repeats word for word. "
            "Give the result alone: cases.columns.answer."
        )
    long = [case for case in texts if len(case.gold.text.split()) > LONG_WORDS and case not in worked]
    if long:
        yield (
            f"{_named(long)}: the gold answer has more than {LONG_WORDS} words, and is hardly ever met word for word. "
            "Name a column with a short one (cases.columns.answer), or score responses by a reward of your own."
        )
    latex = [case for case in texts if _LATEX.search(case.gold.text)]
    if latex:
        yield f"{_named(latex)}: the gold answer is LaTeX, which is compared as text: 1/2 is not \\frac{{1}}{{2}}."
    without = [case for case in cases if case.gold.kind == "none"]
    if without:
        yield f"{_named(without)}: there is no gold answer. A run needs a reward of your own, and shows no accuracy."
    kinds = Counter(case.gold.kind for case in cases)
    if len(kinds) > 1:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        yield f"Gold answers are of several kinds: {listed}. Set the column `kind` if that is not meant."


def _questions(cases: Sequence[Case]) -> Iterable[str]:
    shown = [case for case in cases if _IMAGE.search(asked_text(case))]
    if shown:
        yield f"{_named(shown)}: the question speaks of an image, which the model does not see."
    repeated = [case for case in cases if _repeats(case)]
    if repeated:
        yield f"{_named(repeated)}: two options have the same text; such an answer is judged by its letter."
    for name in _PASSAGES:
        unseen = [case for case in cases if isinstance(case.columns.get(name), str) and case.columns[name]]
        if unseen:
            yield (
                f"{_named(unseen)}: the model does not see the column `{name}`. If the question is about it: "
                f"--set cases.columns.context={name}."
            )
    pairs = [case for case in cases if {"chosen", "rejected"} <= case.columns.keys()]
    if pairs:
        yield (
            f"{_named(pairs)}: GRPO does not learn from `chosen` and `rejected`; only rewards of your own can use them."
        )


def _shift(book: CaseBook) -> Iterable[str]:
    distance = label_shift(book)
    if distance is not None:
        yield (
            f"The splits' answers differ more than chance explains, in {percent(distance)} of the cases. A policy that "
            "learns how frequent answers are in training will do worse on the test cases."
        )


def _repeats(case: Case) -> bool:
    texts = [text.lower() for text in case.options.values()]
    return len(set(texts)) < len(texts)


def _named(cases: Sequence[Case]) -> str:
    """3 cases (17, 20, 31)."""
    first: Callable[[Sequence[Case]], str] = lambda some: ", ".join(case.id for case in some)  # noqa: E731
    more = ", …" if len(cases) > 3 else ""
    return f"{len(cases):,} case{'s' if len(cases) > 1 else ''} ({first(cases[:3])}{more})"
