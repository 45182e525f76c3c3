"""Copies of a question fall on one side of the split, however their publisher punctuated them."""

from __future__ import annotations

from pathlib import Path

import pytest

from grandrounds.cases.load import load_cases, split_key
from grandrounds.recipe import CasesRecipe
from grandrounds.types import Answer, Case

MEDMCQA = Path(__file__).parents[2] / "shared/data/medmcqa_dev.jsonl.gz"


def asked(question: str) -> str:
    return split_key(Case("1", question, Answer("text", "Safety")))


@pytest.mark.parametrize(
    "copy", ["Aim of phase 1 trials is:-", "aim of  phase-1 trials is", "Aim of phase 1 trials is?"]
)
def test_punctuation_spacing_and_case_make_no_new_question(copy: str) -> None:
    assert asked(copy) == asked("Aim of phase 1 trials is:")


def test_other_words_and_bare_signs_do() -> None:
    assert len({asked(text) for text in ("aim of phase 1", "aim of phase 2", "+", "-")}) == 4


@pytest.mark.skipif(not MEDMCQA.is_file(), reason="the published data are not here")
@pytest.mark.parametrize("seed", range(3))
def test_no_question_of_medmcqa_is_trained_on_and_tested(seed: int) -> None:
    book = load_cases(CasesRecipe(source=str(MEDMCQA)), seed=seed)
    assert not {split_key(case) for case in book.train} & {split_key(case) for case in book.test}
