"""One entry for every source of cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grandrounds.cases.case import CaseBook
from grandrounds.recipe import CasesRecipe


def load_cases(recipe: CasesRecipe, *, seed: int, fitted: Mapping[str, Any] | None = None) -> CaseBook:
    """Read, check and split the recipe's source."""
    if recipe.source.partition(":")[0] == "clinic":
        from grandrounds.cases.clinic.book import clinic_book

        return clinic_book(recipe, seed, fitted)
    from grandrounds.cases.case_reports import phenopacket_book

    return phenopacket_book(recipe, seed, fitted)
