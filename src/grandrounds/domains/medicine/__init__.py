"""Medicine: published question sets and case reports, and clinical abbreviations."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from grandrounds.domain import CasesSection, Count, Domain, Format, Positive
from grandrounds.domains.medicine.abbreviations import ABBREVIATIONS


class MedicineKeys(CasesSection):
    """How phenopackets become cases."""

    options: Count = Field(4, description="Phenopackets: options per case; 0 asks for a free-text diagnosis.")
    min_train_cases: Positive = Field(
        20, description="Phenopackets: a diagnosis needs this many training cases."
    )
    excluded_findings: bool = Field(
        False, description="Phenopackets: also tell which findings were looked for and absent."
    )
    views: Positive = Field(
        1,
        description="Phenopackets: cases made of each training case: itself and mixtures with others of its diagnosis.",
    )


def _lazily(place: str) -> Callable[..., Any]:
    """A stand-in for "module:function" of this folder, which it imports at the first call, not with the recipe."""
    module, _, name = place.partition(":")

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"{__name__}.{module}"), name)(*arguments)

    return call


def _columns(*sets: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(names.split()) for names in sets)


DOMAIN = Domain(
    name="medicine",
    formats={
        "phenopackets": Format(
            _columns("metaData phenotypicFeatures", "metaData diseases", "metaData interpretations"),
            book=_lazily("phenopackets:phenopacket_book"),
            tested_on=_lazily("phenopackets:tested_on"),
        ),
        "medmcqa": Format(
            _columns("question opa opb opc opd cop"),
            _lazily("published:medmcqa_case"),
            ("id", "exp"),
            choose=_lazily("published:medmcqa_reader"),
        ),
        "mediq": Format(
            _columns("question options answer_idx facts"),
            _lazily("published:mediq_case"),
            ("id", "answer", "context", "patient"),
        ),
        "medqa": Format(
            _columns("question options answer_idx"),
            _lazily("published:medqa_case"),
            ("id", "answer", "meta_info"),
        ),
        "pubmedqa": Format(
            _columns("QUESTION CONTEXTS final_decision", "question context final_decision"),
            _lazily("published:pubmedqa_case"),
            ("id", "LABELS", "LONG_ANSWER", "long_answer"),
        ),
    },
    keys=MedicineKeys,
    abbreviations=ABBREVIATIONS,
    recipes=Path(__file__).parent / "recipes",
)
