"""Compares policies that were evaluated on the same cases: which cases each got right where the other did not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from grandrounds.errors import CaseError
from grandrounds.evaluation.result import CaseResult, Evaluation
from grandrounds.evaluation.statistics import Interval, McNemar, mcnemar_exact, paired_bootstrap

Outcome = Literal["gained", "lost", "both_right", "both_wrong"]
OUTCOMES: tuple[Outcome, ...] = ("gained", "lost", "both_right", "both_wrong")


@dataclass(frozen=True)
class Pair:
    """Two policies on the same cases.

    gained: cases where `after` did better; lost: where `before` did. With one answer each, only that policy was right.
    both_right, both_wrong: the other cases; both_wrong where every answer of both policies was wrong.
    difference: accuracy of `after` minus that of `before`. interval: paired bootstrap, by groups if there are any.
    p, log10_p: of the exact McNemar test. With several answers per case: of the sign test on each case's share of
        right answers, which is the same test where there is one answer.
    """

    before: str
    after: str
    gained: int
    lost: int
    both_right: int
    both_wrong: int
    difference: float
    interval: Interval
    p: float
    log10_p: float


@dataclass(frozen=True)
class Example:
    """A case to show: how the first answers of the first and the last policy compare in it."""

    outcome: Outcome
    id: str


@dataclass(frozen=True)
class Comparison:
    """Policies in the order they were named: the first is the regular one, the last the one of interest.

    pairs: the first policy against each other one, then each other one against the last.
    outcomes: the number of cases with each outcome, by the first answers of the first and the last policy.
    baselines: each baseline of the last policy against that policy.
    """

    evaluations: Mapping[str, Evaluation]
    pairs: tuple[Pair, ...]
    outcomes: Mapping[Outcome, int]
    seed: int
    _ranked: Mapping[Outcome, tuple[str, ...]] = field(repr=False)
    baselines: tuple[Pair, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The policies' names."""
        return tuple(self.evaluations)

    @property
    def count(self) -> int:
        """The number of cases."""
        return next(iter(self.evaluations.values())).count

    @property
    def headline(self) -> Pair | None:
        """The first policy against the last; None if there is only one."""
        return next((pair for pair in self.pairs if pair.after == self.names[-1]), None)

    def examples(self, each: int = 1) -> tuple[Example, ...]:
        """Up to `each` cases of every outcome, drawn by a hash of their ids and not picked by hand."""
        return tuple(Example(outcome, id) for outcome in OUTCOMES for id in self._ranked[outcome][:each])

    def results(self, id: str) -> dict[str, CaseResult]:
        """Each policy's result on one case. KeyError for an unknown id."""
        found = {
            name: next((case for case in evaluation.cases if case.id == id), None)
            for name, evaluation in self.evaluations.items()
        }
        if any(case is None for case in found.values()):
            raise KeyError(id)
        return {name: case for name, case in found.items() if case is not None}

    def to_json(self, *, cases: bool = False, responses: bool = True) -> dict[str, Any]:
        """Each policy's numbers, the paired tests, and the ids of one example of each outcome."""
        return {
            "count": self.count,
            "policies": {
                name: evaluation.to_json(cases=cases, responses=responses)
                for name, evaluation in self.evaluations.items()
            },
            "pairs": [_pair_json(pair) for pair in self.pairs],
            "baselines": self._baselines_json(),
            "outcomes": dict(self.outcomes),
            "examples": [asdict(example) for example in self.examples()],
            "seed": self.seed,
        }

    def _baselines_json(self) -> dict[str, Any]:
        own = {baseline.name: baseline for baseline in self.evaluations[self.names[-1]].baselines}
        return {
            pair.before: {**own[pair.before].to_json(), "against": _pair_json(pair)}
            for pair in self.baselines
        }


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {**asdict(pair), "interval": list(pair.interval)}


def compare(evaluations: Mapping[str, Evaluation], *, seed: int = 0) -> Comparison:
    """Compare evaluations of the same cases. CaseError, which says how they differ, for different cases."""
    if not evaluations:
        raise CaseError("there is nothing to compare", hint="Name at least one policy.")
    names = list(evaluations)
    first, last = evaluations[names[0]], evaluations[names[-1]]
    for name in names[1:]:
        _require_same_cases(names[0], first, name, evaluations[name])
    aligned = {name: _in_order_of(first, evaluation) for name, evaluation in evaluations.items()}
    rights = {name: [case.share_correct for case in results] for name, results in aligned.items()}
    # A case without a group is its own group. The prefix keeps ids and group names apart.
    groups = [("group", case.group) if case.group else ("case", case.id) for case in first.cases]
    couples = [(names[0], name) for name in names[1:]] + [(name, names[-1]) for name in names[1:-1]]
    ranked = _ranked(aligned[names[0]], aligned[names[-1]], seed) if len(names) > 1 else _alone(last, seed)
    return Comparison(
        evaluations=dict(evaluations),
        pairs=tuple(
            _pair((before, rights[before]), (after, rights[after]), groups, seed) for before, after in couples
        ),
        baselines=tuple(
            _pair(
                (baseline.name, [float(baseline.correct[case.id]) for case in first.cases]),
                (names[-1], rights[names[-1]]),
                groups,
                seed,
            )
            for baseline in last.baselines
        ),
        outcomes={outcome: len(ids) for outcome, ids in ranked.items()},
        seed=seed,
        _ranked=ranked,
    )


def _require_same_cases(name: str, one: Evaluation, other_name: str, other: Evaluation) -> None:
    mine, theirs = ({case.id: case for case in evaluation.cases} for evaluation in (one, other))
    differing = [
        id
        for id in mine.keys() & theirs.keys()
        if (mine[id].question, mine[id].gold, mine[id].options)
        != (theirs[id].question, theirs[id].gold, theirs[id].options)
    ]
    found = [
        (f"only {name} has", sorted(mine.keys() - theirs.keys())),
        (f"only {other_name} has", sorted(theirs.keys() - mine.keys())),
        ("question, options or answer differ in", sorted(differing)),
    ]
    ways = [f"{what} {_listed(ids)}" for what, ids in found if ids]
    if ways:
        raise CaseError(
            f"{name} and {other_name} were not evaluated on the same cases: {'; '.join(ways)}",
            hint="Evaluate them on one source, with the same split, limit and seed.",
        )


def _listed(ids: list[str]) -> str:
    shown = ", ".join(ids[:3])
    return f"{len(ids)} ({shown}, …)" if len(ids) > 3 else f"{len(ids)} ({shown})"


def _in_order_of(first: Evaluation, other: Evaluation) -> list[CaseResult]:
    by_id = {case.id: case for case in other.cases}
    return [by_id[case.id] for case in first.cases]


def _pair(
    one: tuple[str, Sequence[float]],
    other: tuple[str, Sequence[float]],
    groups: Sequence[tuple[str, str]],
    seed: int,
) -> Pair:
    """Each policy: its name and its share of right answers to each case, in the order of the cases' groups."""
    (before, after), rights = (one[0], other[0]), (np.array(one[1]), np.array(other[1]))
    differences = rights[1] - rights[0]
    # Shares that are equal may differ in the last bit where the policies gave different numbers of answers.
    gained, lost = int((differences > 1e-9).sum()), int((differences < -1e-9).sum())
    both_wrong = int(((rights[0] == 0) & (rights[1] == 0)).sum())
    test: McNemar = mcnemar_exact(lost, gained)
    return Pair(
        before=before,
        after=after,
        gained=gained,
        lost=lost,
        both_right=len(differences) - gained - lost - both_wrong,
        both_wrong=both_wrong,
        difference=float(differences.mean()),
        interval=paired_bootstrap(differences, groups=groups, key=(seed, "paired bootstrap", before, after)),
        p=test.p,
        log10_p=test.log10_p,
    )


def _ranked(before: list[CaseResult], after: list[CaseResult], seed: int) -> dict[Outcome, tuple[str, ...]]:
    """Ids by outcome of the first answers. The order in each list depends only on seed and id."""
    ids: dict[Outcome, list[str]] = {outcome: [] for outcome in OUTCOMES}
    for one, other in zip(before, after, strict=True):
        ids[_outcome(one.first.correct, other.first.correct)].append(one.id)
    return {outcome: tuple(sorted(found, key=lambda id: lot(seed, id))) for outcome, found in ids.items()}


def _alone(evaluation: Evaluation, seed: int) -> dict[Outcome, tuple[str, ...]]:
    cases = list(evaluation.cases)
    return _ranked(cases, cases, seed)


def _outcome(before: bool, after: bool) -> Outcome:
    if before == after:
        return "both_right" if after else "both_wrong"
    return "gained" if after else "lost"


def lot(seed: int, id: str) -> bytes:
    """A key to sort cases by, which depends on nothing that they hold."""
    return hashlib.blake2b(f"{seed}\x1f{id}".encode(), digest_size=16).digest()
