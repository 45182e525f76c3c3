"""Ways to answer without understanding: what they score is what a policy has to beat."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grandrounds.shares import percent
from grandrounds.types import Case, CaseBook

# A shortcut is warned of where it scores so much more than chance, and by more than chance alone would.
FAR_ABOVE = 0.10
LIKELY = 3.0  # standard errors
# The name of `LabelFrequency.state` among what was fitted on a run's cases.
FREQUENCY = "label_frequency"
# Cases that a split needs for its answers to be compared, and random splits that they are compared with.
FEW, SHUFFLES = 20, 200


@dataclass(frozen=True)
class Shortcut:
    """A way to answer without understanding.

    accuracy: on the test split, or all cases where it needs no fitting. train: on the training cases, where it was
    fitted on the others of them. cases: that it was evaluated on. detail: what it does, where that varies.
    """

    name: str
    accuracy: float
    cases: int
    detail: str = ""
    train: float | None = None


# Shortcut that its name does not explain -> what it answers. `Domain.shortcuts` explains those of a domain.
EXPLAINED = {
    "label frequency": "the answer most often right in the training cases",
    "label frequency, by count": "the option most often right in the training cases",
    "label frequency, by rate": "the option most often right there where it is offered",
}


@dataclass(frozen=True)
class LabelFrequency:
    """Takes the option, or the label, that is most often right in the training cases, whatever is asked.

    right, offered: how often each text, in lower case, is the right one and an option at all; labels (yes / no) are
    never offered. by: "count" of being right, or "rate" of being right where offered.
    """

    right: Mapping[str, int]
    offered: Mapping[str, int]
    by: str = "rate"

    @classmethod
    def fit(cls, cases: Iterable[Case], by: str = "rate") -> LabelFrequency:
        """On these cases; those with neither options nor labels teach nothing."""
        right: Counter[str] = Counter()
        offered: Counter[str] = Counter()
        for case in filter(_has_label, cases):
            right[case.gold.text.lower()] += 1
            offered.update({text.lower() for text in case.options.values()})
        return cls(right, offered, by)

    def state(self) -> dict[str, dict[str, int]]:
        """JSON-able counts."""
        return {"right": dict(self.right), "offered": dict(self.offered)}

    def choose(self, case: Case, *, own: bool = False) -> str:
        """The letter it takes; of equal ones, by a hash of the case's id. own: it was fitted on this case too."""
        scores = {letter: self._score(text.lower(), case, own) for letter, text in case.options.items()}
        best = [letter for letter, score in scores.items() if score == max(scores.values())]
        digest = hashlib.blake2b(case.id.encode(), digest_size=8).digest()
        return best[int.from_bytes(digest, "little") % len(best)]

    def is_right(self, case: Case, *, own: bool = False) -> bool:
        """Whether it answers a case rightly; own: the case is left out of the counts that answer it."""
        if is_choice(case):
            return self.choose(case, own=own) == case.gold.letter
        gold = case.gold.text.lower()
        counts = {**self.right, gold: self.right.get(gold, 0) - own}
        return max(sorted(counts), key=counts.__getitem__) == gold

    def accuracy(self, cases: Sequence[Case], *, own: bool = False) -> float:
        """Its share of right answers."""
        return float(np.mean([self.is_right(case, own=own) for case in cases]))

    def _score(self, text: str, case: Case, own: bool) -> float:
        right, offered = self.right.get(text, 0), self.offered.get(text, 0)
        if own:
            right, offered = right - (text == case.gold.text.lower()), offered - 1
        # Laplace's rule: a label that was never offered is as likely as any other.
        return float(right) if self.by == "count" else (right + 1) / (offered + len(case.options))


def label_baselines(
    book: CaseBook, cases: Sequence[Case], trained_on: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, dict[str, bool]]:
    """What a label's frequency alone gets right: name -> case id -> whether; empty where it says nothing.

    trained_on: `LabelFrequency.state` of a run's training cases, for cases of another file than the run's own.
    """
    train = {case.id for case in book.train}
    if not all(map(_has_label, cases)):
        return {}
    if trained_on is not None:
        fitted, train = LabelFrequency(trained_on["right"], trained_on["offered"]), set()
    elif any(map(_has_label, book.train)):
        fitted = LabelFrequency.fit(book.train)
    else:
        return {}
    return {"label frequency": {case.id: fitted.is_right(case, own=case.id in train) for case in cases}}


def shortcuts(book: CaseBook) -> Iterable[Shortcut]:
    """What can be had without reading the question, and what the source itself knows."""
    cases = book.every
    chosen = [case for case in cases if is_choice(case)]
    if chosen:
        yield Shortcut("chance", _chance(chosen), len(chosen))
        letter, count = Counter(case.gold.letter for case in chosen).most_common(1)[0]
        yield Shortcut("majority letter", count / len(chosen), len(chosen), f"always {letter}")
        yield Shortcut(
            "longest option", float(np.mean([_longest_option(case) for case in chosen])), len(chosen)
        )
        yield from _label_shortcuts(book)
    others = [case.gold.text for case in cases if case.gold.kind in ("label", "text")]
    if others:
        text, count = Counter(others).most_common(1)[0]
        yield Shortcut("majority answer", count / len(others), len(others), f"always {text}")
    if book.knowledge is not None and book.test:
        for name, correct in book.knowledge.baselines(book.test).items():
            yield Shortcut(name, sum(correct.values()) / len(correct), len(correct), "on the test split")


def _label_shortcuts(book: CaseBook) -> Iterable[Shortcut]:
    train, test = ([case for case in part if is_choice(case)] for part in (book.train, book.test))
    if not train or not test:
        return
    for by in ("count", "rate"):
        fitted = LabelFrequency.fit(train, by)
        yield Shortcut(
            f"label frequency, by {by}",
            fitted.accuracy(test),
            len(test),
            "fitted on the training split",
            train=fitted.accuracy(train, own=True),
        )


def shortcut_warnings(book: CaseBook, found: Sequence[Shortcut]) -> Iterable[str]:
    """Plain words for each shortcut that scores far above chance."""
    chance = next((cut.accuracy for cut in found if cut.name == "chance"), None)
    if chance is None:
        return
    for cut in found:
        own = cut.name.startswith(("label frequency", "majority letter", "longest option"))
        for where, accuracy in (("the test cases", cut.accuracy), ("the training cases", cut.train)):
            if own and accuracy is not None and _far_above(accuracy, chance, cut.cases):
                yield (
                    f"{cut.name} alone gets {percent(accuracy)} of {where} right, chance {percent(chance)}: "
                    "a policy may learn it instead of the task."
                )
                break


def _far_above(accuracy: float, chance: float, cases: int) -> bool:
    error = (chance * (1 - chance) / max(1, cases)) ** 0.5
    return accuracy - chance > max(FAR_ABOVE, LIKELY * error)


def _chance(cases: Sequence[Case]) -> float:
    return float(np.mean([1 / len(case.options) for case in cases]))


def _has_label(case: Case) -> bool:
    """Whether the answer is one of a fixed set: an option, or a label."""
    return is_choice(case) or case.gold.kind == "label"


def is_choice(case: Case) -> bool:
    """Whether one of several options is right."""
    return case.gold.kind == "choice" and bool(case.options)


def _longest_option(case: Case) -> float:
    """1 where the longest option is right; shared where several are as long."""
    longest = max(map(len, case.options.values()))
    longest_ones = [letter for letter, text in case.options.items() if len(text) == longest]
    return (case.gold.letter in longest_ones) / len(longest_ones)


def label_shift(book: CaseBook) -> float | None:
    """How far the splits' answers differ, as total variation distance, where that is more than chance explains.

    None where it is not, or answers are too many or too few to tell. Chance: the 99 % quantile over random splits.
    """
    train, test = (
        [case.gold.text.lower() for case in part if case.gold.kind in ("choice", "label")]
        for part in (book.train, book.test)
    )
    names = sorted({*train, *test})
    if min(len(train), len(test)) < FEW or len(names) > len(train) / 2:
        return None
    place = {name: number for number, name in enumerate(names)}
    both = np.array([place[label] for label in (*train, *test)])

    def distance(order: np.ndarray) -> float:
        parts = np.split(order, [len(train)])
        first, second = (np.bincount(part, minlength=len(names)) / len(part) for part in parts)
        return float(np.abs(first - second).sum() / 2)

    generator = np.random.Generator(np.random.Philox(key=7))
    by_chance = [distance(generator.permutation(both)) for _ in range(SHUFFLES)]
    found = distance(both)
    return found if found > np.quantile(by_chance, 0.99) else None
