"""Several sources as one, each with its share of what is drawn in training (`cases.mix`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from grandrounds.cases.balance import label_weights
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe
from grandrounds.types import Case, CaseBook

# The tag of a case that says which source it is of.
SOURCE = "source"


def source_names(recipe: CasesRecipe) -> dict[str, str]:
    """Source -> its name in tags: short, and no two alike."""
    sources = [recipe.source, *recipe.mix]
    short = [Path(source).name.split(".")[0] or source for source in sources]
    counts = Counter(short)
    return {
        source: name if counts[name] == 1 else source for source, name in zip(sources, short, strict=True)
    }


def joined(recipe: CasesRecipe, books: Mapping[str, CaseBook]) -> CaseBook:
    """The sources' books as one, each case tagged with its source. Ids that two sources share get the source's name.

    Raises CaseError for sources that bring knowledge of their own, which cannot judge other sources' cases, and for
    shares that leave nothing to `source`.
    """
    if sum(recipe.mix.values()) >= 1:
        raise CaseError(
            f"the shares add up to {sum(recipe.mix.values()):g}, which leaves nothing to cases.source",
            where="cases.mix",
            hint="Give shares that add up to less than 1.",
        )
    for source, book in books.items():
        if book.knowledge is not None or book.held_out:
            raise CaseError(
                "this source is built as a whole and cannot be mixed with others",
                where=source,
                hint="Train on it alone, or mix files of questions and answers.",
            )
    names = source_names(recipe)
    ids = Counter(case.id for book in books.values() for case in (*book.train, *book.test))

    def tagged(cases: Sequence[Case], name: str) -> list[Case]:
        return [
            replace(
                case,
                id=f"{name}-{case.id}" if ids[case.id] > 1 else case.id,
                tags={**case.tags, SOURCE: name},
            )
            for case in cases
        ]

    dropped: Counter[str] = Counter()
    for book in books.values():
        dropped.update(book.dropped)
    first = books[recipe.source]
    return CaseBook(
        train=[case for source, book in books.items() for case in tagged(book.train, names[source])],
        test=[case for source, book in books.items() for case in tagged(book.test, names[source])],
        fitted=first.fitted,
        read=sum(book.read for book in books.values()),
        dropped=dict(dropped),
        left_out=[line for book in books.values() for line in book.left_out],
        notes=[note for book in books.values() for note in book.notes],
    )


def case_weights(recipe: CasesRecipe, cases: Sequence[Case]) -> np.ndarray | None:
    """How often each case is drawn [N], of mean 1, by `cases.mix` and, within each source, `cases.balance`.

    None where all are drawn alike. A source without cases here leaves its share to the others.
    """
    if not recipe.mix and recipe.balance == "none":
        return None
    if not recipe.mix:
        return label_weights(cases)
    names = source_names(recipe)
    shares = {names[recipe.source]: 1 - sum(recipe.mix.values())}
    shares |= {names[source]: share for source, share in recipe.mix.items()}
    weights = np.zeros(len(cases))
    for name, share in shares.items():
        places = [place for place, case in enumerate(cases) if case.tags.get(SOURCE) == name]
        if places:
            own = [cases[place] for place in places]
            within = label_weights(own) if recipe.balance == "label" else np.ones(len(own))
            weights[places] = share * within / within.sum()
    return weights / weights.mean()
