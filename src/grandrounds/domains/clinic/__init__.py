"""The embedded clinic: a generated teaching world whose right answers and reasoning are known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from grandrounds.domain import Count, Domain, Positive, Section, Source
from grandrounds.types import CaseBook

NOTICE = "Teaching world, not clinical knowledge: its findings and their strengths are synthetic."


class ClinicKeys(Section):
    """How many cases the clinic generates."""

    clinic_train: Positive = Field(12_000, description="Clinic: training vignettes to generate.")
    clinic_test: Positive = Field(600, description="Clinic: vignettes in each held-out set.")
    clinic_complaints: list[str] = Field(
        [],
        description="Clinic: only patients with these complaints, such as [chest pain, cough]; [] for all.",
    )
    clinic_textbook: Count = Field(
        0,
        description="Clinic: with an open textbook: so many typical findings of each option stand beside it; 0: none.",
    )


def _book(recipe: ClinicKeys, seed: int, fitted: Mapping[str, Any] | None) -> CaseBook:
    from grandrounds.domains.clinic.book import clinic_book

    return clinic_book(recipe, seed, fitted)


DOMAIN = Domain(
    name="clinic",
    sources={"clinic": Source(_book, NOTICE)},
    keys=ClinicKeys,
    shortcuts={
        "prior": "always the commonest of the options",
        "first finding": "what the first finding speaks for most",
        "overlap": "what most of the findings speak for, however strongly",
        "textbook": "what most of the findings match in the open textbook",
    },
    recipes=Path(__file__).parent / "recipes",
)
