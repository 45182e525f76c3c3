"""Demonstrations: how a hurried junior reasons about a vignette, and how a thorough one does.

Every point that is stated is true. What makes a demonstration mediocre is what it leaves out, and its
conclusion follows from what it did weigh; so a model that imitates the mixture is often wrong, and can learn
to be right by doing more often what the thorough ones do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grandrounds.cases.case import Demonstration
from grandrounds.cases.clinic.vignette import Vignette
from grandrounds.response.outline import Candidate, Claim, Outline, render_outline, weighed_candidate
from grandrounds.response.totals import comparison


@dataclass(frozen=True)
class Habits:
    """How often each way of reasoning is demonstrated; the rest is thorough.

    anchoring: weighs the first finding only. closure: shortlists what the first finding suggests and the commonest
    other condition, and weighs no third.
    """

    anchoring: float = 0.05
    closure: float = 0.55


def demonstrate(vignette: Vignette, generator: np.random.Generator, habits: Habits) -> Demonstration:
    """One way of reasoning, drawn by habit."""
    draw = generator.random()
    if draw < habits.anchoring:
        outline = reason(vignette, vignette.facts[2:3], vignette.options)
    elif draw < habits.anchoring + habits.closure:
        outline = reason(vignette, vignette.facts, _shortlist(vignette, generator))
        shortlist = "; ".join(candidate.name for candidate in outline.differential)
        return Demonstration(f"Shortlist: {shortlist}.\n{render_outline(outline)}", answer(vignette, outline))
    else:
        outline = thorough(vignette)
    return Demonstration(render_outline(outline), answer(vignette, outline))


def _shortlist(vignette: Vignette, generator: np.random.Generator) -> tuple[int, ...]:
    """What the first finding speaks for most, then the commonest other."""
    cluster = vignette.cluster
    order = generator.permutation(vignette.options)  # so that chance decides between equals
    suggested = max(order, key=lambda option: cluster.points(vignette.facts[2], option))
    others = [option for option in order if option != suggested]
    commonest = max(others, key=lambda option: cluster.prevalence[option])
    return int(suggested), int(commonest)


def thorough(vignette: Vignette) -> Outline:
    """Every fact weighed for every option."""
    return reason(vignette, vignette.facts, vignette.options)


def answer(vignette: Vignette, outline: Outline) -> str:
    """The outline's conclusion as a lettered option."""
    names = [vignette.cluster.conditions[option] for option in vignette.options]
    assert outline.conclusion is not None
    return f"{'ABCDEFGH'[names.index(outline.conclusion)]}. {outline.conclusion}"


def reason(vignette: Vignette, facts: tuple[str, ...], options: tuple[int, ...]) -> Outline:
    """Weigh some facts for some options. The conclusion is the first of the highest totals."""
    cluster = vignette.cluster
    differential = [
        weighed_candidate(
            cluster.conditions[option], [Claim(fact, cluster.points(fact, option)) for fact in facts]
        )
        for option in options
    ]
    first, second = _leaders(differential)
    return Outline(tuple(facts), tuple(differential), comparison(first, second), first.name)


def _leaders(differential: list[Candidate]) -> tuple[Candidate, Candidate]:
    ordered = sorted(differential, key=lambda candidate: -(candidate.total or 0))
    return ordered[0], ordered[1]
