"""The clinic's world: an exact posterior, decidable vignettes, disjoint and reproducible sets."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from grandrounds.cases.ask import ask
from grandrounds.cases.load import load_cases
from grandrounds.domains.clinic import NOTICE
from grandrounds.domains.clinic.book import clinic_book, describe_world
from grandrounds.domains.clinic.phrase import DETAILS, KEPT_BACK, LISTS, NEGATIVES, OPENINGS
from grandrounds.domains.clinic.vignette import LEAST_LEAD, LEAST_POSTERIOR, SWAP_MATTERS, Style
from grandrounds.domains.clinic.world import BANDS, SEXES, world
from grandrounds.errors import RecipeError
from grandrounds.recipe import CasesRecipe, PromptRecipe
from grandrounds.types import Case, CaseBook

SIZES = CasesRecipe(clinic_train=1500, clinic_test=200)
SETS = ("unseen phrasings", "more findings", "shifted prevalence", "overlap fails", "age and sex swapped")


@pytest.fixture(scope="module")
def book() -> CaseBook:
    return clinic_book(SIZES, seed=3)


def every_set(book: CaseBook) -> dict[str, list[Case]]:
    return {
        "train": list(book.train),
        "test": list(book.test),
        **{k: list(v) for k, v in book.held_out.items()},
    }


def test_table_is_complete_and_says_what_it_is() -> None:
    clinic = world()
    used = {finding for cluster in clinic.clusters for finding in cluster.findings}
    assert used == set(clinic.phrasings)
    assert len(clinic.by_condition) == sum(len(cluster.conditions) for cluster in clinic.clusters) == 48
    assert len(used) >= 150
    assert all(3 <= len(phrases) <= 4 for phrases in clinic.phrasings.values())
    assert "not clinical knowledge" in NOTICE
    assert NOTICE in describe_world()


def test_phrasings_are_unambiguous() -> None:
    clinic = world()
    for cluster in clinic.clusters:
        phrases = [text for f in cluster.findings for text in (f, *clinic.phrasings[f])]
        assert [text for text, count in Counter(phrases).items() if count > 1] == []
        assert not [text for text in phrases if text.startswith("no ") and text not in clinic.phrasings]


def test_points_are_rounded_likelihood_ratios() -> None:
    cluster, row = world().by_condition["pericarditis"]
    assert [
        cluster.points(fact, row) for fact in ("pain eased when sitting forward", "fever", "palpitations")
    ] == [4, 3, 2]
    assert cluster.points("crushing chest pain", row) == 0
    assert cluster.points("no pain eased when sitting forward", row) == -2
    assert cluster.points("young", row) == 1


def test_posterior_in_the_columns_is_bayes_rule_over_the_whole_cluster(book: CaseBook) -> None:
    clinic = world()
    shifted = {case.id for case in book.held_out["shifted prevalence"]}
    for case in [case for cases in every_set(book).values() for case in cases[:40]]:
        cluster, row = clinic.by_condition[case.gold.text.lower()]
        prior = 1 / cluster.prevalence if case.id in shifted else cluster.prevalence
        weights = []
        for condition in range(len(cluster.conditions)):
            weight = prior[condition]
            for fact in case.facts:
                chance = cluster.probability[condition, cluster.column[fact.removeprefix("no ")]]
                weight *= 1 - chance if fact.startswith("no ") else chance
            weights.append(weight)
        expected = np.array(weights) / sum(weights)
        assert list(case.columns["posterior"]) == list(cluster.conditions)
        assert np.allclose(list(case.columns["posterior"].values()), expected, atol=1e-12)
        assert expected.argmax() == row
        assert math.isclose(
            case.columns["margin"], np.sort(expected)[-1] - np.sort(expected)[-2], abs_tol=1e-12
        )


def test_posterior_is_calibrated_for_the_way_vignettes_are_made() -> None:
    """Of patients with one posterior, the share it says has the condition: silence says nothing.

    All kept and passed-over patients count here, so the sampler's blocks are looked into.
    """
    from grandrounds.domains.clinic.vignette import _candidates

    cluster = world().clusters[0]
    generator = np.random.Generator(np.random.Philox(key=7))
    blocks = [_candidates(cluster, generator, Style(), 8192) for _ in range(30)]
    posterior = np.concatenate([block.posterior for block in blocks])
    truth = np.concatenate([block.condition for block in blocks])
    assert len(truth) > 10_000
    for condition in range(len(cluster.conditions)):
        said, was = posterior[:, condition], truth == condition
        for low in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9):
            among = (said >= low) & (said < low + 0.2)
            if among.sum() > 300:
                error = 4 * math.sqrt(said[among].mean() * (1 - said[among].mean()) / among.sum())
                assert abs(said[among].mean() - was[among].mean()) < error + 1e-3


def test_every_vignette_is_decidable_by_posterior_and_by_points(book: CaseBook) -> None:
    clinic = world()
    for case in (case for cases in every_set(book).values() for case in cases):
        cluster, _ = clinic.by_condition[case.gold.text.lower()]
        assert case.columns["posterior"][case.gold.text] >= LEAST_POSTERIOR
        totals = {
            name: sum(cluster.points(fact, cluster.conditions.index(name)) for fact in case.facts)
            for name in case.options.values()
        }
        gold = totals.pop(case.gold.text)
        assert gold - max(totals.values()) >= LEAST_LEAD


def test_options_are_four_of_one_cluster_and_letters_balanced(book: CaseBook) -> None:
    clinic = world()
    letters = Counter(case.gold.letter for case in book.train)
    for case in book.train:
        assert list(case.options) == ["A", "B", "C", "D"]
        assert len(set(case.options.values())) == 4
        assert {clinic.by_condition[name.lower()][0].name for name in case.options.values()} == {
            case.tags["complaint"]
        }
        assert case.options[case.gold.letter or ""] == case.gold.text
    assert max(letters.values()) - min(letters.values()) < 0.1 * len(book.train)


def test_no_facts_are_shared_between_training_and_any_test_set(book: CaseBook) -> None:
    contents = {
        name: {(case.tags["complaint"], frozenset(case.facts)) for case in cases}
        for name, cases in every_set(book).items()
    }
    names = list(contents)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not contents[one] & contents[other], (one, other)


def test_same_seed_gives_the_same_book_and_another_seed_another(book: CaseBook) -> None:
    again = clinic_book(SIZES, seed=99, fitted=book.fitted)
    assert every_set(again) == every_set(book)
    other = clinic_book(CasesRecipe(clinic_train=50, clinic_test=10), seed=4)
    assert [case.question for case in other.train[:50]] != [case.question for case in book.train[:50]]


def test_more_training_vignettes_begin_with_the_fewer(book: CaseBook) -> None:
    fewer = clinic_book(CasesRecipe(clinic_train=100, clinic_test=10), seed=3)
    assert list(fewer.train) == list(book.train[:100])


def test_global_random_state_is_neither_read_nor_moved() -> None:
    import random

    random.seed(1)
    np.random.seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    clinic_book(CasesRecipe(clinic_train=20, clinic_test=5), seed=0)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]


def test_facts_are_told_in_the_text_in_order(book: CaseBook) -> None:
    clinic = world()
    for case in book.train[:300]:
        band, sex, *told = case.facts
        assert band in BANDS
        assert sex in SEXES
        low, high = BANDS[band]
        assert any(str(age) in case.question for age in range(low, high + 1))
        place = 0
        for fact in told:
            ways = (fact,) if fact.startswith("no ") else (fact, *clinic.phrasings[fact])
            found = [at for at in (case.question.find(way, place) for way in ways) if at >= 0]
            assert found, (fact, case.question)
            place = min(found)


def test_vignettes_are_short_and_phrased_in_many_ways(book: CaseBook) -> None:
    assert len(OPENINGS) - KEPT_BACK >= 24
    words = [len(ask(case, PromptRecipe(system=""))[0].content.split()) for case in book.train]
    assert 35 <= np.mean(words) <= 65
    assert sum(any(detail in case.question for detail in DETAILS) for case in book.train) > 0.3 * len(
        book.train
    )
    assert len(LISTS) >= 5
    assert len(NEGATIVES) >= 4
    assert len({case.question for case in book.train}) > 0.99 * len(book.train)


def test_shortcuts_are_limited_and_measured(book: CaseBook) -> None:
    solved = book.knowledge.baselines(book.train)
    rates = {name: sum(one.values()) / len(one) for name, one in solved.items()}
    assert set(rates) == {"prior", "first finding", "overlap"}
    assert rates["prior"] < 0.25
    assert rates["first finding"] < 0.55
    assert rates["overlap"] < 0.65
    assert not any(book.knowledge.baselines(book.held_out["overlap fails"])["overlap"].values())


def test_held_out_sets_are_made_when_they_are_asked_for_whichever_comes_first() -> None:
    recipe = SIZES.model_copy(update={"clinic_test": 20})
    book = clinic_book(recipe, 7)
    assert "_sets" not in vars(book.held_out)
    last = book.held_out[SETS[-1]]
    clinic_book(recipe, 8)  # of all books the newest is remembered
    again = clinic_book(recipe, 7)
    assert again.held_out is not book.held_out
    assert [*again.held_out.values()][-1] == last
    assert book.read == len(book.train) + len(book.test) + 20 * len(SETS)


def test_held_out_sets_are_what_they_are_called(book: CaseBook) -> None:
    assert tuple(book.held_out) == SETS
    assert {len(cases) for cases in book.held_out.values()} == {SIZES.clinic_test}
    most = max(len(case.facts) for case in book.train)
    assert min(len(case.facts) for case in book.held_out["more findings"]) > most

    clinic = world()
    kept_back = {finding: phrases[-1] for finding, phrases in clinic.phrasings.items()}
    for case in book.held_out["unseen phrasings"]:
        assert all(kept_back[fact] in case.question for fact in case.facts[2:] if not fact.startswith("no "))
    told = " ".join(case.question for case in book.train)
    assert not [phrase for phrase in kept_back.values() if f" {phrase}," in told or f" {phrase}." in told]

    rarity = {name: cluster.prevalence[row] for name, (cluster, row) in clinic.by_condition.items()}

    def mean(cases: list[Case]) -> float:
        return float(np.mean([rarity[case.gold.text.lower()] for case in cases]))

    assert mean(list(book.held_out["shifted prevalence"])) < mean(list(book.test)) - 0.5


def test_swapping_age_and_sex_back_moves_the_posterior(book: CaseBook) -> None:
    clinic = world()
    other_band, other_sex = (
        dict(zip(BANDS, reversed(BANDS), strict=True)),
        dict(zip(SEXES, reversed(SEXES), strict=True)),
    )
    changed = 0
    cases = book.held_out["age and sex swapped"]
    for case in cases:
        band, sex, *told = case.facts
        cluster, row = clinic.by_condition[case.gold.text.lower()]
        original = cluster.posterior((other_band[band], other_sex[sex], *told))
        moved = np.abs(original - list(case.columns["posterior"].values())).max()
        assert moved >= SWAP_MATTERS - 1e-9
        changed += original.argmax() != row
    assert changed > 0.1 * len(cases)


def test_a_ward_has_only_patients_with_the_complaints_named() -> None:
    recipe = CasesRecipe(clinic_complaints=["cough", "fever"], clinic_train=60, clinic_test=20)
    book = load_cases(recipe, seed=3)
    for cases in (book.train, book.test, *book.held_out.values()):
        assert {case.tags["complaint"] for case in cases} == {"cough", "fever"}
    again = load_cases(CasesRecipe(clinic_train=60, clinic_test=20), seed=3, fitted=book.fitted)
    assert again.test == book.test


def test_an_unknown_complaint_is_named_with_the_one_meant() -> None:
    with pytest.raises(RecipeError, match="`coughs`") as raised:
        load_cases(CasesRecipe(clinic_complaints=["coughs"]), seed=0)
    assert "`cough`" in (raised.value.hint or "")
