"""Each reward gives its own gold answer full marks, over whole published data sets."""

from __future__ import annotations

import gzip
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from rewards_support import choice_case, rewards

from grandrounds.rewards import judge, validate_rewards
from grandrounds.rewards.text import normalise
from grandrounds.types import Answer, Case

DATA = Path(__file__).parents[2] / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the published data are not here")
ALL = rewards(
    **{
        name: {}
        for name in ("accuracy", "format", "consistency", "evidence", "coverage", "length", "repetition")
    }
)

# Options of one question that are one thing by two names.
TWINS = {frozenset(("Xylocaine", "Lignocaine"))}


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def medqa() -> list[Case]:
    return [
        choice_case(row["answer_idx"], row["options"], id=str(i), question=row["question"])
        for i, row in enumerate(rows("medqa_dev.jsonl.gz"))
    ]


def medmcqa() -> list[Case]:
    return [
        choice_case(
            "ABCD"[row["cop"] - 1],
            {letter: row[f"op{letter.lower()}"] for letter in "ABCD"},
            id=row["id"],
            question=row["question"],
        )
        for row in rows("medmcqa_dev.jsonl.gz")
    ]


def mediq() -> list[Case]:
    return [
        choice_case(
            row["answer_idx"],
            row["options"],
            id=str(row["id"]),
            question=row["question"],
            facts=tuple(row["facts"]),
        )
        for row in rows("mediq_dev.jsonl.gz")
    ]


def phenopackets() -> list[Case]:
    cases = []
    for row in rows("phenopackets.jsonl.gz"):
        disease = row["interpretations"][0]["diagnosis"]["disease"]["label"]
        facts = tuple(f["type"]["label"] for f in row.get("phenotypicFeatures", []) if not f.get("excluded"))
        cases.append(Case(row["id"], "Which disease?", Answer("text", disease), facts=facts))
    return cases


@pytest.mark.parametrize("read", [medqa, medmcqa, mediq, phenopackets])
def test_gold_answers_get_full_marks(read: Any) -> None:
    assert validate_rewards(ALL, read()) == []


def pubmedqa() -> list[Case]:
    rows_by_id = json.loads(gzip.decompress((DATA / "pubmedqa_train.json.gz").read_bytes()))
    values = rows_by_id.items() if isinstance(rows_by_id, dict) else enumerate(rows_by_id)
    return [Case(str(key), "Is it?", Answer("label", row["final_decision"])) for key, row in values]


@pytest.mark.parametrize("read", [medqa, medmcqa, mediq, phenopackets, pubmedqa])
def test_each_gold_answer_is_right_for_itself(read: Any) -> None:
    for case in read():
        assert judge(case.gold.text, Case(case.id, "What is it?", Answer("text", case.gold.text))).correct, (
            case.gold
        )
        if case.gold.kind == "label":
            assert judge(case.gold.text, case).correct, case.gold


@pytest.mark.parametrize("read", [medqa, medmcqa])
def test_no_option_is_right_where_another_is_the_gold_answer(read: Any) -> None:
    taken = [
        (text, other)
        for case in read()
        for text, other in combinations(case.options.values(), 2)
        if normalise(text) != normalise(other) and frozenset((text, other)) not in TWINS
        if judge(text, Case("1", "What is it?", Answer("text", other))).correct
    ]
    assert taken == []


@pytest.mark.parametrize("read", [medqa, medmcqa])
def test_each_option_is_read_as_itself_in_every_form(read: Any) -> None:
    for case in read():
        for letter, text in case.options.items():
            for form in (
                letter,
                f"({letter})",
                f"{letter}. {text}",
                f"{letter}:\n{text}",
                f"**{letter}) {text}**",
            ):
                assert judge(form, case).given == letter, (form, case.options)
            twins = [other for other, same in case.options.items() if same.lower() == text.lower()]
            # A text of one letter ("c") is a letter first.
            if len(twins) == 1 and len(text) > 1:
                assert judge(text, case).given == letter, (text, case.options)


def test_no_two_diseases_are_taken_for_one_another() -> None:
    names = sorted({case.gold.text for case in phenopackets()})
    golds = [Case("1", "q", Answer("text", name)) for name in names[::5]]
    confused = [(name, case.gold.text) for case in golds for name in names if judge(name, case).correct]
    assert confused == [(case.gold.text, case.gold.text) for case in golds]
