"""Demonstrations of how a hurried junior doctor and a thorough one reason about a vignette.

Every stated point is true. A demonstration is mediocre because of what it leaves out; its conclusion follows from what
it weighs. So a model that imitates the mixture is often wrong, and can learn to be right by reasoning thoroughly more
often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grandrounds.domains.clinic.vignette import Vignette
from grandrounds.response.outline import Claim, Outline, render_outline, weighed_candidate
from grandrounds.response.totals import comparison
from grandrounds.types import Demonstration


@dataclass(frozen=True)
class Habits:
    """How often each way of reasoning is demonstrated. All other demonstrations are thorough.

    anchoring: weighs only the first finding. closure: weighs only the commonest option and one other.
    """

    anchoring: float = 0.05
    closure: float = 0.55


def demonstrate(vignette: Vignette, generator: np.random.Generator, habits: Habits) -> Demonstration:
    """A demonstration, with the way of reasoning drawn by habit."""
    draw, opening = generator.random(), ""
    if draw < habits.anchoring:
        outline = reason(vignette, vignette.facts[2:3], vignette.options)
    elif draw < habits.anchoring + habits.closure:
        outline = reason(vignette, vignette.facts, _shortlist(vignette, generator))
        opening = f"Shortlist: {'; '.join(candidate.name for candidate in outline.differential)}.\n"
    else:
        outline = thorough(vignette)
    assert outline.conclusion is not None
    return Demonstration(opening + render_outline(outline), outline.conclusion)


def _shortlist(vignette: Vignette, generator: np.random.Generator) -> tuple[int, ...]:
    """The commonest option and a random other one."""
    order = generator.permutation(vignette.options).tolist()  # so that ties are broken at random
    commonest = max(order, key=lambda option: vignette.cluster.prevalence[option])
    return commonest, next(option for option in order if option != commonest)


def thorough(vignette: Vignette) -> Outline:
    """The outline that weighs every fact for every option."""
    return reason(vignette, vignette.facts, vignette.options)


def reason(vignette: Vignette, facts: tuple[str, ...], options: tuple[int, ...]) -> Outline:
    """Weigh some facts for some options. The conclusion is the first option with the highest total."""
    cluster = vignette.cluster
    differential = [
        weighed_candidate(
            cluster.conditions[option], [Claim(fact, cluster.points(fact, option)) for fact in facts]
        )
        for option in options
    ]
    first = max(differential, key=lambda candidate: candidate.total or 0)
    return Outline(tuple(facts), tuple(differential), comparison(differential, first), first.name)
