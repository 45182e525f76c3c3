"""The shipped recipes work on the data they name: every demonstration fits into the longest completion."""

from __future__ import annotations

from pathlib import Path

import pytest

from grandrounds.cases.corpus import corpus
from grandrounds.cases.load import load_cases
from grandrounds.policy.scratch import build_tokenizer
from grandrounds.recipe_file import load_recipe
from grandrounds.response.grammar import Grammar

PHENOPACKETS = Path(__file__).parents[2] / "shared/data/phenopackets.jsonl.gz"


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("clinic", ["cases.clinic_train=2000"]),
        pytest.param(
            "phenopackets",
            [f"cases.source={PHENOPACKETS}", "cases.views=2"],
            marks=pytest.mark.skipif(not PHENOPACKETS.is_file(), reason="the published data are not here"),
        ),
    ],
)
def test_every_demonstration_fits_into_the_longest_completion(name: str, overrides: list[str]) -> None:
    recipe = load_recipe(name, overrides)
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    book = load_cases(recipe.cases, seed=recipe.seed)
    tokenizer = build_tokenizer(corpus(recipe, book, grammar), recipe.policy.scratch.vocabulary, grammar.tags)
    texts = [
        grammar.render(case.demonstration.reasoning, case.demonstration.answer)
        for case in book.train
        if case.demonstration is not None
    ]
    lengths = [len(tokens) for tokens in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    # One more token ends the response.
    assert max(lengths) + 1 <= recipe.grpo.max_new_tokens
