"""The open textbook: each option's typical findings stand in the question, and a reasoning compares the case with them.

    A. Cellulitis (spreading red skin, chills, warm swollen leg, skin wound)

What must be known is then given, and what is learned is to read the case, compare, and decide. Cases use the textbook's
words, but for those of the set of unseen phrasings. A demonstration has a line for each option, without points:

    Cellulitis: for chills, spreading red skin.
    Malaria: for chills; against no headache.
    Conclusion: Cellulitis.

Half of the demonstrations are hurried: they compare two options drawn at random, which may both be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from grandrounds.cases.check import ReasoningCheck, check_points
from grandrounds.cases.split import keyed_unit
from grandrounds.domains.clinic.vignette import Vignette
from grandrounds.domains.clinic.world import STRENGTHS, Cluster
from grandrounds.response.outline import Candidate, Claim, Outline, render_outline
from grandrounds.types import Case, Demonstration

TEXTBOOK = "textbook"  # the column of a case with option -> its page
HURRIED = 0.5
# What a hurried demonstration compares.
AT_A_GLANCE = 2


def opened(case: Case, vignette: Vignette, length: int) -> Case:
    """The case with each option's page beside it, and a demonstration that compares with it where it had one.

    length: findings on a page, at most.
    """
    cluster = vignette.cluster
    pages = {cluster.conditions[option]: page(cluster, option, length) for option in vignette.options}
    return replace(
        case,
        option_notes={name: ", ".join(listed) for name, listed in pages.items()},
        columns={**case.columns, TEXTBOOK: pages},
        demonstration=_demonstrated(case, vignette, pages) if case.demonstration else None,
    )


def page(cluster: Cluster, condition: int, length: int) -> tuple[str, ...]:
    """A condition's typical findings, the most frequent first: at most `length`, and none that is rare."""
    frequencies = cluster.probability[condition, : len(cluster.findings)]
    order = np.argsort(-frequencies, kind="stable")[:length]
    return tuple(cluster.findings[i] for i in order if frequencies[i] > STRENGTHS["rare"])


def compare(facts: Sequence[str], name: str, listed: Sequence[str]) -> Candidate:
    """An option with the case's findings that its page names, and those that the case is said not to have."""
    return Candidate(
        name,
        supports=tuple(Claim(fact) for fact in facts if fact in listed),
        contradicts=tuple(Claim(fact) for fact in facts if fact.startswith("no ") and fact[3:] in listed),
    )


def _demonstrated(case: Case, vignette: Vignette, pages: Mapping[str, Sequence[str]]) -> Demonstration:
    """Thorough, or hurried. It concludes what the findings named have most points for, the first of equals."""
    question = str(case.question)
    options = [vignette.cluster.conditions[option] for option in vignette.options]
    if keyed_unit(0, question, "hurried") < HURRIED:
        seen = sorted(options, key=lambda name: keyed_unit(0, question, "seen", name))[:AT_A_GLANCE]
        options = [name for name in options if name in seen]
    candidates = [compare(case.facts, name, pages[name]) for name in options]
    rows = vignette.cluster.conditions
    best = max(candidates, key=lambda one: _points(one, vignette.cluster, rows.index(one.name))).name
    return Demonstration(render_outline(Outline(differential=tuple(candidates), conclusion=best)), best)


def check_comparison(case: Case, outline: Outline, rows: Mapping[str, tuple[Cluster, int]]) -> ReasoningCheck:
    """Check a reasoning against the pages of the case's options, in its column `textbook`.

    True: the finding is the case's and on the option's page, and on the right side. Complete: every option is compared,
    and all such findings are named. The conclusion follows if what is named has the most points for it.

    rows: option, in lower case -> its cluster and row.
    """
    expected = {
        name.lower(): compare(case.facts, name, listed) for name, listed in case.columns[TEXTBOOK].items()
    }
    sides = {
        name: {claim.finding: 1 for claim in candidate.supports}
        | {claim.finding: -1 for claim in candidate.contradicts}
        for name, candidate in expected.items()
    }
    said = {candidate.name.lower(): candidate for candidate in outline.differential}
    named = {name: {claim.finding.lower() for claim in candidate.claims} for name, candidate in said.items()}
    checked = check_points(outline, sides, case.facts, complete=False, stated=False)
    points = {name: _points(candidate, *rows[name]) for name, candidate in said.items() if name in rows}
    concluded = (outline.conclusion or "").lower()
    return replace(
        checked,
        complete=all(
            named.get(name, set()) >= findings.keys() and name in said for name, findings in sides.items()
        ),
        conclusion_follows=points.get(concluded) == max(points.values()) if concluded and points else None,
    )


def matches_most(case: Case) -> bool:
    """Whether the right option has most matches: the case's findings on its page, less those that the case lacks."""
    counts = {
        name: len(candidate.supports) - len(candidate.contradicts)
        for name, listed in case.columns[TEXTBOOK].items()
        for candidate in [compare(case.facts, name, listed)]
    }
    return all(counts[case.gold.text] > count for name, count in counts.items() if name != case.gold.text)


def _points(candidate: Candidate, cluster: Cluster, condition: int) -> int:
    """What the findings named count in the clinic; those that it does not know, nothing."""
    named = {claim.finding.lower() for claim in candidate.claims}
    known = [finding for finding in named if finding.removeprefix("no ") in cluster.column]
    return sum(cluster.points(finding, condition) for finding in known)
