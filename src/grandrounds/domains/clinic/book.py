"""The clinic as a source of cases: training vignettes with demonstrations, and the held-out sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from grandrounds.domains.clinic import NOTICE, ClinicKeys
from grandrounds.domains.clinic.checker import ClinicKnowledge
from grandrounds.domains.clinic.phrase import phrase
from grandrounds.domains.clinic.textbook import opened
from grandrounds.domains.clinic.traces import Habits, demonstrate
from grandrounds.domains.clinic.vignette import LEAST_POSTERIOR, Style, Vignette, vignettes
from grandrounds.domains.clinic.world import World, world
from grandrounds.shares import percent
from grandrounds.types import Answer, Case, CaseBook

HELD_OUT = {
    "unseen phrasings": Style(unseen_phrasings=True),
    "more findings": Style(present=(5, 6), absent=(2, 3), asked=(6, 4)),
    "shifted prevalence": Style(shifted_prevalence=True),
    "overlap fails": Style(overlap_must_fail=True),
    "age and sex swapped": Style(swap_demographics=True),
}


# Vignettes with equal content are the same, whatever their wording and options: (cluster, facts).
Content = tuple[str, frozenset[str]]


def clinic_book(recipe: ClinicKeys, seed: int, fitted: Mapping[str, Any] | None = None) -> CaseBook:
    """Generate vignettes, keyed by (seed, set). No two sets share a vignette's facts.

    fitted: of an earlier book; its seed makes the same cases again.
    """
    complaints = fitted.get("complaints", []) if fitted else recipe.clinic_complaints
    textbook = fitted.get("textbook", 0) if fitted else recipe.clinic_textbook
    seed = fitted["seed"] if fitted else seed
    return _book(seed, recipe.clinic_train, recipe.clinic_test, tuple(complaints), textbook)


# A demo requests the same book eight times, and each would take seconds. A book is never modified.
@lru_cache(maxsize=1)
def _book(
    seed: int, train_count: int, test_count: int, complaints: tuple[str, ...], textbook: int
) -> CaseBook:
    clinic = world().of_complaints(complaints)
    make = partial(_cases, clinic, seed=seed, seen=set(), textbook=textbook)
    train = make("train", train_count, Style(), unique=False, demonstrated=True)
    test = make("new vignettes", test_count, Style())
    return CaseBook(
        train=train,
        test=test,
        held_out=_HeldOut(lambda name, style: make(name, test_count, style)),
        knowledge=ClinicKnowledge(clinic),
        fitted={
            "format": "clinic",
            "seed": seed,
            **({"complaints": list(complaints)} if complaints else {}),
            **({"textbook": textbook} if textbook else {}),
        },
        read=train_count + test_count * (1 + len(HELD_OUT)),
    )


class _HeldOut(Mapping[str, Sequence[Case]]):
    """The held-out sets. They are made when one is first asked for: most runs ask for none, and it takes a second.

    All are made then, in their order, since no set has a vignette of those before it.
    """

    def __init__(self, make: Callable[[str, Style], Sequence[Case]]) -> None:
        self._make = make

    @cached_property
    def _sets(self) -> dict[str, Sequence[Case]]:
        return {name: self._make(name, style) for name, style in HELD_OUT.items()}

    def __getitem__(self, name: str) -> Sequence[Case]:
        return self._sets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(HELD_OUT)

    def __len__(self) -> int:
        return len(HELD_OUT)


def describe_world() -> str:
    """A short description of the clinic, for readers of reports."""
    clinic = world()
    conditions = sum(len(cluster.conditions) for cluster in clinic.clusters)
    names = ", ".join(cluster.name for cluster in clinic.clusters)
    phrasings = sum(1 + len(phrases) for phrases in clinic.phrasings.values())
    return (
        f"{NOTICE}\n"
        f"{conditions} conditions in {len(clinic.clusters)} clusters that present alike ({names}), "
        f"{len(clinic.phrasings)} findings in {phrasings} phrasings. The right answer is the option with "
        f"the highest exact posterior, at least {percent(LEAST_POSTERIOR, 0)} in its cluster."
    )


def _cases(
    clinic: World,
    name: str,
    count: int,
    style: Style,
    *,
    seed: int,
    seen: set[Content],
    textbook: int,
    unique: bool = True,
    demonstrated: bool = False,
) -> list[Case]:
    """`unique`: leave out vignettes in `seen`. Every set adds its vignettes to `seen`."""
    cases: list[Case] = []
    generator = _generator(seed, name)
    for vignette in vignettes(clinic, generator, style):
        content = (vignette.cluster.name, frozenset(vignette.facts))
        if unique and content in seen:
            continue
        seen.add(content)
        text = phrase(clinic, vignette, generator, unseen=style.unseen_phrasings, canonical=textbook > 0)
        identity = f"{name.replace(' ', '-')}-{len(cases):05d}"
        cases.append(_case(identity, vignette, text, generator, demonstrated, textbook))
        if len(cases) == count:
            break
    return cases


def _case(
    identity: str,
    vignette: Vignette,
    text: str,
    generator: np.random.Generator,
    demonstrated: bool,
    textbook: int,
) -> Case:
    names = [vignette.cluster.conditions[option] for option in vignette.options]
    options = dict(zip("ABCDEFGH", names, strict=False))
    right = vignette.options.index(vignette.condition)
    next_one, likeliest = np.sort(vignette.posterior)[-2:]
    case = Case(
        id=identity,
        question=text,
        gold=Answer("choice", names[right], letter="ABCDEFGH"[right]),
        options=options,
        facts=vignette.facts,
        tags={"age": vignette.facts[0], "sex": vignette.facts[1], "complaint": vignette.cluster.name},
        demonstration=demonstrate(vignette, generator, Habits()) if demonstrated else None,
        columns={
            "posterior": dict(zip(vignette.cluster.conditions, vignette.posterior.tolist(), strict=True)),
            "margin": float(likeliest - next_one),
            "shortcuts": vignette.shortcuts,
        },
    )
    return opened(case, vignette, textbook) if textbook else case


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}\x1f{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
