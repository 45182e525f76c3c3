"""Medicine: published question sets and case reports, clinical abbreviations and synonyms."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from grandrounds.domain import CasesSection, Count, Domain, Format, Positive, columns, lazily
from grandrounds.domains.medicine.abbreviations import ABBREVIATIONS
from grandrounds.domains.medicine.synonyms import SYNONYMS


class MedicineKeys(CasesSection):
    """How phenopackets become cases."""

    options: Count = Field(4, description="Phenopackets: options per case; 0 asks for a free-text diagnosis.")
    min_train_cases: Positive = Field(
        20, description="Phenopackets: a diagnosis needs this many training cases."
    )
    excluded_findings: bool = Field(
        False, description="Phenopackets: also state which findings were looked for and absent."
    )
    most_findings: Count = Field(
        0, description="Phenopackets: a case has only its first findings, this many; 0 takes all."
    )
    views: Positive = Field(
        1,
        description="Phenopackets: cases per training case: itself, and mixtures with others of its diagnosis.",
    )


DOMAIN = Domain(
    name="medicine",
    formats={
        "phenopackets": Format(
            columns("metaData phenotypicFeatures", "metaData diseases", "metaData interpretations"),
            book=lazily(__name__, "phenopackets:phenopacket_book"),
            tested_on=lazily(__name__, "phenopackets:tested_on"),
        ),
        "medmcqa": Format(
            columns("question opa opb opc opd cop"),
            lazily(__name__, "published:medmcqa_case"),
            ("id", "exp"),
            choose=lazily(__name__, "published:medmcqa_reader"),
        ),
        "mediq": Format(
            columns("question options answer_idx facts"),
            lazily(__name__, "published:mediq_case"),
            ("id", "answer", "context", "patient"),
        ),
        "medqa": Format(
            columns("question options answer_idx"),
            lazily(__name__, "published:medqa_case"),
            ("id", "answer", "meta_info"),
        ),
        "openlife": Format(
            columns("data subject_name"), lazily(__name__, "published:openlife_case"), ("id",)
        ),
        "medical_o1": Format(
            (frozenset(("Open-ended Verifiable Question", "Ground-True Answer")),),
            lazily(__name__, "published:medical_o1_case"),
            ("id",),
        ),
        "medical_o1_sft": Format(
            columns("Question Complex_CoT Response"),
            lazily(__name__, "published:medical_o1_sft_case"),
            ("id",),
        ),
        "healthbench": Format(
            columns("prompt rubrics"), lazily(__name__, "published:healthbench_case"), ("prompt_id",)
        ),
        "pubmedqa": Format(
            columns("QUESTION CONTEXTS final_decision", "question context final_decision"),
            lazily(__name__, "published:pubmedqa_case"),
            ("id", "LABELS", "LONG_ANSWER", "long_answer"),
        ),
    },
    keys=MedicineKeys,
    shortcuts={"naive Bayes": "what the findings speak for together, as counted in the training cases"},
    called=("medical", "clinical"),
    abbreviations=ABBREVIATIONS,
    synonyms=SYNONYMS,
    recipes=Path(__file__).parent / "recipes",
)
