"""Phenopackets become differential-diagnosis cases: split by publication, options and points from training alone."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.cases.load import load_cases
from grandrounds.cases.shortcuts import LabelFrequency
from grandrounds.domains.medicine.ages import age_band, age_text, days_of
from grandrounds.domains.medicine.bayes import NaiveBayes
from grandrounds.domains.medicine.differential import (
    HURRIED_FINDINGS,
    MOST_FINDINGS,
)
from grandrounds.domains.medicine.phenopackets import safe_name
from grandrounds.errors import CaseError, RecipeError
from grandrounds.recipe import CasesRecipe
from grandrounds.response.outline import Outline, parse_outline, render_outline, weighed_candidate
from grandrounds.types import PUBLICATION, TRAINED_ON, Case, CaseBook

FILE = Path(__file__).parents[2] / "shared/data/phenopackets.jsonl.gz"
published = pytest.mark.skipif(not FILE.is_file(), reason="the published data are not here")


def packet(number: int, disease: str, findings: Sequence[str], **changes: Any) -> dict[str, Any]:
    """A phenopacket; three of them share a publication. "-fever" is looked for and absent."""
    features = [
        {"type": {"id": "HP:1", "label": name.removeprefix("-")}, "excluded": name[0] == "-"}
        for name in findings
    ]
    return {
        "id": f"case-{number}",
        "subject": {"sex": "FEMALE", "timeAtLastEncounter": {"age": {"iso8601duration": "P6Y2M"}}},
        "phenotypicFeatures": features,
        "diseases": [{"term": {"id": "OMIM:1", "label": disease}}],
        "metaData": {"externalReferences": [{"id": f"PMID:{number // 3}"}]},
        **changes,
    }


def world(count: int = 240) -> list[dict[str, Any]]:
    """Four diseases, each with three findings of its own and one that all share."""
    rng = np.random.default_rng(0)
    packets = []
    for number in range(count):
        disease = number % 4
        own = [f"Finding {disease}{part}" for part in range(3) if rng.random() < 0.7]
        odd = [f"Oddity {rng.integers(40)}"]
        packets.append(packet(number, f"Disease, type {disease}", [*own, *odd, "Fever"]))
    return packets


def book(
    path: Path, packets: list[dict[str, Any]], fitted: dict[str, Any] | None = None, **changes: Any
) -> CaseBook:
    path.write_text("".join(json.dumps(packet) + "\n" for packet in packets))
    settings = {"test_fraction": 0.3, "min_train_cases": 20, **changes}
    return load_cases(CasesRecipe(source=str(path), **settings), seed=0, fitted=fitted)


@cache
def whole(options: int = 4) -> CaseBook:
    recipe = CasesRecipe(source=str(FILE), format="phenopackets", test_fraction=0.3, options=options)
    return load_cases(recipe, seed=0)


@published
def test_the_published_file_is_read_whole_and_splits_as_measured() -> None:
    cases = whole()
    assert cases.read == 8588
    assert len(cases.fitted["model"]["labels"]) == 63
    assert (len(cases.train), len(cases.test)) == (3479, 462)
    assert len(cases.train) + len(cases.test) + sum(cases.dropped.values()) == 8588
    assert sum(count for reason, count in cases.dropped.items() if "no observed finding" in reason) == 3
    assert {case.group for case in cases.train}.isdisjoint(case.group for case in cases.test)


def correct_of(book: CaseBook, cases: Sequence[Case] | None = None) -> dict[str, bool]:
    return book.knowledge.baselines(book.test if cases is None else cases)["naive Bayes"]


def share(correct: dict[str, bool]) -> float:
    return sum(correct.values()) / len(correct)


@published
def test_naive_bayes_is_as_good_as_measured() -> None:
    cases = whole()
    assert share(correct_of(cases)) == pytest.approx(0.9545, abs=0.001)
    # Training cases, mixtures among them, are easier: the table was fitted on them.
    assert share(correct_of(cases, cases.train)) == pytest.approx(0.9635, abs=0.001)
    assert set(correct_of(cases)) == {case.id for case in cases.test}


@published
def test_options_are_hard_although_their_frequencies_are_matched() -> None:
    """Rivals that are the likeliest labels would make naive Bayes err wherever it errs on all labels: 9.7 %."""
    choices, texts = correct_of(whole()), correct_of(whole(0))
    assert all(choices[case] for case, right in texts.items() if right)
    assert share(choices) - share(texts) < 0.06


@published
def test_how_frequent_a_diagnosis_is_says_nothing() -> None:
    cases = whole()
    own = [case for case in cases.train if "~" not in case.id]
    for by in ("count", "rate"):
        assert LabelFrequency.fit(own, by).accuracy(own, own=True) < 0.34
        assert LabelFrequency.fit(own, by).accuracy(cases.test) < 0.29
    right = Counter(case.gold.text for case in own)
    offered = Counter(text for case in own for text in case.options.values())
    assert sum(abs(offered[label] - 4 * right[label]) for label in right) < 0.03 * sum(offered.values())


@published
def test_letters_are_balanced() -> None:
    letters = Counter(case.gold.letter for case in whole().train)
    assert max(letters.values()) / len(whole().train) < 0.28


@published
@pytest.mark.parametrize("options", [4, 0])
def test_every_demonstration_is_true_and_concludes_as_it_answers(options: int) -> None:
    cases = whole(options)
    for case in cases.train:
        assert case.demonstration is not None
        outline = parse_outline(case.demonstration.reasoning)
        check = cases.knowledge.check(case, outline)
        assert check.false_claims == (), case.id
        assert check.conclusion_follows, case.id
        assert case.demonstration.answer == outline.conclusion
        if options:
            assert outline.conclusion in case.options.values()


@published
def test_another_file_is_built_as_the_run_built_its_own(tmp_path: Path) -> None:
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    other = tmp_path / "other.jsonl"
    other.write_text("".join(lines[:900]), encoding="utf-8")
    fitted = json.loads(json.dumps(whole().fitted))
    cases = load_cases(CasesRecipe(source=str(other)), seed=5, fitted=fitted)
    assert not cases.train
    assert len(cases.test) + sum(cases.dropped.values()) == cases.read == 900
    own = {case.id: case for case in whole().test}
    same = [case for case in cases.test if case.id in own]
    assert same
    for case in same:
        assert case.options == own[case.id].options
        assert case.tags["publication"] == "new"
    assert {case.tags[PUBLICATION] for case in cases.test} == {"new", TRAINED_ON}


@published
def test_demonstrations_give_a_finding_the_same_points_for_a_diagnosis_everywhere() -> None:
    said: dict[tuple[str, str], set[int | None]] = defaultdict(set)
    for case in whole().train:
        for candidate in outline_of(case).differential:
            for claim in (*candidate.supports, *candidate.contradicts, *candidate.neutral):
                said[candidate.name, claim.finding].add(claim.points)
    assert len(said) > 1000
    assert {len(points) for points in said.values()} == {1}


@published
def test_demonstrations_weigh_every_listed_finding_for_every_option_and_add_up() -> None:
    for case in whole().train:
        outline = outline_of(case)
        assert 1 <= len(outline.findings) <= MOST_FINDINGS
        assert outline.findings == case.facts[: len(outline.findings)]
        assert [candidate.name for candidate in outline.differential] == list(case.options.values())
        for candidate in outline.differential:
            assert {claim.finding for claim in candidate.claims} == set(outline.findings)
            assert candidate.total == sum(claim.points or 0 for claim in candidate.claims)
            assert all(c.sums and c.sums[0] + (c.points or 0) == c.sums[1] for c in candidate.claims)
            assert candidate.total in {claim.sums[1] for claim in candidate.claims if claim.sums}


@published
def test_demonstrations_conclude_as_naive_bayes_does_but_for_what_few_rounded_findings_lose() -> None:
    cases = whole()
    thorough = 0
    agree = 0
    for case in cases.train:
        outline = outline_of(case)
        totals = {candidate.name: candidate.total or 0 for candidate in outline.differential}
        assert totals[outline.conclusion or ""] == max(totals.values())
        if len(outline.findings) == min(MOST_FINDINGS, len(case.facts)):
            thorough += 1
            agree += outline.conclusion == cases.knowledge.predict(case)
            assert cases.knowledge.check(case, outline).valid
        else:
            assert outline.findings == case.facts[:HURRIED_FINDINGS]
            assert not cases.knowledge.check(case, outline).complete
    assert 0.5 < thorough / len(cases.train) < 0.75  # short cases have nothing to hurry over
    assert agree / thorough > 0.9


def test_views_mix_findings_of_one_diagnosis_and_draw_other_options(tmp_path: Path) -> None:
    plain = book(tmp_path / "a.jsonl", world(), options=2)
    more = book(tmp_path / "a.jsonl", world(), options=2, views=5)
    assert [case for case in more.train if "~" not in case.id] == plain.train
    assert (more.test, more.fitted) == (plain.test, plain.fitted)
    assert len(more.train) == 5 * len(plain.train)
    originals = {case.id: case for case in plain.train}
    told: dict[str, set[str]] = {}
    for case in plain.train:
        told.setdefault(case.gold.text, set()).update(case.facts)
    own = strange = 0
    for case in more.train:
        original = originals[case.id.partition("~")[0]]
        assert case.facts
        own += len(set(case.facts) & told[case.gold.text])
        strange += len(set(case.facts) - told[case.gold.text])
        assert (case.gold.text, case.group) == (original.gold.text, original.group)
        assert case.options[case.gold.letter or ""] == case.gold.text
    assert 0 < strange < own / 4  # a few findings of any case, to copy and to weigh
    assert len({(case.facts, tuple(case.options.values())) for case in more.train}) > 2 * len(plain.train)


def test_views_borrow_findings_of_diagnoses_too_rare_to_be_asked_for(tmp_path: Path) -> None:
    rare = [packet(900 + 3 * n, f"Rare disease {n}", [f"Rare finding {n}"]) for n in range(60)]
    cases = book(tmp_path / "a.jsonl", [*world(), *rare], options=2, views=5)
    borrowed = {fact for case in cases.train for fact in case.facts if fact.startswith("rare")}
    assert len(borrowed) > 10
    assert not borrowed & set(cases.knowledge.model.columns)
    assert not {fact for case in cases.test for fact in case.facts} & borrowed


def test_a_case_has_only_its_first_findings_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = book(path, world(), options=2)
    short = book(path, world(), options=2, most_findings=2, views=3)
    originals = {case.id: case for case in (*whole.train, *whole.test)}
    known = [case for case in (*short.train, *short.test) if case.id in originals]
    assert {case.facts == originals[case.id].facts[:2] for case in known} == {True}
    assert {len(case.facts) for case in short.train if "~" in case.id} <= {1, 2}
    again = book(path, world(), fitted=json.loads(json.dumps(short.fitted)))
    asked = {case.id: case.facts for case in again.test}
    assert all(asked[case.id] == case.facts for case in short.test)


def outline_of(case: Case) -> Outline:
    assert case.demonstration is not None
    return parse_outline(case.demonstration.reasoning)


def test_the_question_tells_who_and_what_and_nothing_absent(tmp_path: Path) -> None:
    strange = packet(900, "Disease, type 1", ["EMG: slow, weak", "Fever", "fever", "-Rash", "CD4:CD8 low"])
    case = find(book(tmp_path / "a.jsonl", [*world(), strange], test_fraction=0), "case-900")
    assert (
        case.question
        == "Girl, 6 years. Findings: emg slow weak; fever; cd4/cd8 low. Which diagnosis fits best?"
    )
    assert case.facts == ("emg slow weak", "fever", "cd4/cd8 low")
    assert case.gold.text == "Disease type 1"
    assert case.columns["disease"] == "Disease, type 1"
    assert case.tags == {"age": "2 to 11", "sex": "female"}
    told = book(tmp_path / "a.jsonl", [*world(), strange], test_fraction=0, excluded_findings=True)
    assert find(told, "case-900").facts[-1] == "no rash"


def find(cases: CaseBook, identity: str) -> Case:
    return next(case for case in (*cases.train, *cases.test) if case.id == identity)


def test_a_free_text_diagnosis_may_be_given_by_its_published_name(tmp_path: Path) -> None:
    case = book(tmp_path / "a.jsonl", world(), options=0).train[0]
    assert (case.gold.kind, case.options) == ("text", {})
    assert case.gold.synonyms == (case.columns["disease"],)
    assert case.gold.text == case.columns["disease"].replace(",", "")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    more = [packet(900, "Disease, type 1", ["-Fever"]), packet(903, "Rare", ["Fever"])]
    cases = book(tmp_path / "a.jsonl", [*world(), *more], test_fraction=0)
    assert cases.dropped == {"no observed finding": 1, "fewer than 20 training cases of the diagnosis": 1}
    assert cases.read == 242


def test_a_copy_of_a_training_case_is_no_test_case(tmp_path: Path) -> None:
    packets = world()
    first = book(tmp_path / "a.jsonl", packets)
    original = next(p for p in packets if p["id"] == first.train[0].id)
    publication = {"externalReferences": [{"id": first.test[0].group}]}
    second = book(tmp_path / "a.jsonl", [*packets, {**original, "id": "copy", "metaData": publication}])
    assert "copy" not in {case.id for case in (*second.train, *second.test)}
    assert sum(second.dropped.values()) == sum(first.dropped.values()) + 1


def test_what_is_fitted_does_not_see_the_test_cases(tmp_path: Path) -> None:
    packets = world()
    cases = book(tmp_path / "a.jsonl", packets)
    tested = {case.id for case in cases.test}
    changed = [
        {**p, "phenotypicFeatures": [{"type": {"label": "Novelty"}}]} if p["id"] in tested else p
        for p in packets
    ]
    again = book(tmp_path / "a.jsonl", changed)
    assert (again.fitted, again.train) == (cases.fitted, cases.train)


def test_the_order_of_the_file_changes_no_case(tmp_path: Path) -> None:
    forward, backward = book(tmp_path / "a.jsonl", world()), book(tmp_path / "b.jsonl", world()[::-1])
    assert sorted(map(repr, forward.train)) == sorted(map(repr, backward.train))
    assert sorted(map(repr, forward.test)) == sorted(map(repr, backward.test))


def test_a_test_file_of_other_publications_is_the_test_split(tmp_path: Path) -> None:
    other = [
        packet(900 + n, f"Disease, type {n % 4}", [f"Finding {n % 4}{n % 3}", f"New {n}"]) for n in range(12)
    ]
    (tmp_path / "test.jsonl").write_text(
        "".join(json.dumps(p) + "\n" for p in [*other, world()[0] | {"id": "seen"}])
    )
    cases = book(tmp_path / "a.jsonl", world(), test_source=str(tmp_path / "test.jsonl"))
    assert (len(cases.train), len(cases.test), cases.read) == (240, 12, 253)
    assert cases.dropped == {"its publication is in the training cases": 1}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"options": 1}, RecipeError),
        ({"min_train_cases": 500}, CaseError),
        ({"columns": {"question": "text"}}, CaseError),
    ],
)
def test_settings_that_leave_nothing_to_ask_are_errors(
    tmp_path: Path, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match="cases"):
        book(tmp_path / "a.jsonl", world(), **change)


def test_a_file_without_the_runs_diagnoses_is_an_error(tmp_path: Path) -> None:
    fitted = dict(book(tmp_path / "a.jsonl", world()).fitted)
    with pytest.raises(CaseError, match="no cases are left"):
        book(tmp_path / "b.jsonl", [packet(1, "Unheard of", ["Fever"])], fitted)


def test_a_row_that_is_no_phenopacket_is_named(tmp_path: Path) -> None:
    for broken in (
        {"diseases": [], "interpretations": []},
        {"phenotypicFeatures": [{"type": {}}]},
        {"id": "case-0"},
    ):
        with pytest.raises(CaseError) as caught:
            book(tmp_path / "a.jsonl", [*world(), packet(900, "Disease, type 1", ["Fever"], **broken)])
        assert caught.value.where == f"{tmp_path / 'a.jsonl'}:241"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> CaseBook:
    return book(tmp_path_factory.mktemp("small") / "a.jsonl", world())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Findings: ", "Findings: jaundice; ", "a finding that is not in the case"),
        ("weighing ", "weighing jaundice 0, ", "a claim about a finding that is not in the case"),
        ("; total ", "; total 9", "a total that does not add up"),
        ("; leads", "; trails 9", "a candidate that trails none"),
        ("Check: totals ", "Check: totals 9, ", "totals that are not those above"),
        ("Disease type 0: ", "Disease type 9: ", "a candidate that is no option"),
        ("Conclusion: Disease type ", "Conclusion: Disease type 9", "a conclusion without the highest total"),
    ],
)  # fmt: skip
def test_the_check_finds(small: CaseBook, old: str, new: str, why: str) -> None:
    case = next(case for case in small.train if len(outline_of(case).findings) == len(case.facts))
    assert case.demonstration is not None
    reasoning = case.demonstration.reasoning
    assert old in reasoning
    assert small.knowledge.check(case, parse_outline(reasoning)).valid
    assert not small.knowledge.check(case, parse_outline(reasoning.replace(old, new, 1))).valid, why


def test_points_may_be_off_by_one_but_not_on_the_wrong_side(small: CaseBook) -> None:
    case = next(c for c in small.train if " +1" in render_outline(outline_of(c)))
    outline = outline_of(case)
    place, candidate = next(
        (place, candidate)
        for place, candidate in enumerate(outline.differential)
        if any(claim.points == 1 for claim in candidate.supports)
    )
    finding = next(claim.finding for claim in candidate.supports if claim.points == 1)
    for points, true in ((2, True), (1, True), (0, True), (3, False), (-1, False)):
        said = [replace(c, points=points) if c.finding == finding else c for c in candidate.claims]
        claims = [replace(claim, sums=None) for claim in said]
        differential = [*outline.differential]
        differential[place] = weighed_candidate(candidate.name, claims)
        verdict = small.knowledge.check(case, replace(outline, differential=tuple(differential), check=None))
        assert (verdict.true_claims == verdict.claims) == true


def test_a_sum_so_far_must_add_up(small: CaseBook) -> None:
    case = small.train[0]
    outline = outline_of(case)
    candidate = outline.differential[0]
    claim = (*candidate.supports, *candidate.contradicts)[0]
    assert claim.sums is not None
    slipped = replace(claim, sums=(claim.sums[0], claim.sums[1] + 1))
    supports = tuple(slipped if c == claim else c for c in candidate.supports)
    contradicts = tuple(slipped if c == claim else c for c in candidate.contradicts)
    wrong = replace(candidate, supports=supports, contradicts=contradicts)
    verdict = small.knowledge.check(case, replace(outline, differential=(wrong, *outline.differential[1:])))
    assert verdict.false_claims == (f"{candidate.name}: {slipped.text}",)


def test_a_finding_left_out_for_one_candidate_makes_the_reasoning_incomplete(small: CaseBook) -> None:
    case = next(case for case in small.train if len(outline_of(case).findings) == len(case.facts) > 1)
    outline = outline_of(case)
    first, *others = outline.differential
    claims = [replace(claim, sums=None) for claim in first.claims if claim.finding != case.facts[-1]]
    shorter = replace(outline, differential=(weighed_candidate(first.name, claims), *others))
    assert small.knowledge.check(case, outline).complete
    assert not small.knowledge.check(case, shorter).complete


def test_saying_a_true_thing_twice_does_not_pay(small: CaseBook) -> None:
    case = small.train[0]
    assert case.demonstration is not None
    outline = parse_outline(case.demonstration.reasoning)
    twice = replace(outline, findings=outline.findings * 2, differential=outline.differential * 2)
    assert small.knowledge.check(case, twice).score < small.knowledge.check(case, outline).score


def test_points_are_the_rounded_log_ratio_where_a_finding_was_seen_and_minus_one_where_it_never_was() -> None:
    records = [
        ("a", ["rash", "fever"]),
        ("a", ["rash"]),
        ("b", ["fever"]),
        ("b", ["cough"]),
        ("b", ["cough"]),
    ]
    model = NaiveBayes.fit("ab", records)
    points = model.score(["rash", "fever", "cough", "hiccups"]).points
    # rash: ln((2.05 / 2.5) / (2.5 / 6)) = 0.68; fever is about as common in both, which is still no contradiction.
    assert points.tolist() == [[1, 1, -1, 0], [-1, 1, 1, 0]]
    rare = NaiveBayes.fit("ab", [("a", ["rash"]), *[("b", ["fever"])] * 200])
    assert rare.score(["rash"]).points.tolist() == [[5], [-1]]


RECORDS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.lists(st.sampled_from("abcdef"), unique=True, max_size=4)),
).map(lambda records: [*records, ("x", []), ("y", []), ("z", [])])


@given(RECORDS, st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_the_fitted_state_survives_json(records: list[tuple[str, list[str]]], findings: list[str]) -> None:
    model = NaiveBayes.fit("xyz", records)
    again = NaiveBayes.from_state(json.loads(json.dumps(model.state())))
    np.testing.assert_array_equal(model.score(findings).log, again.score(findings).log)


@given(st.text(max_size=30))
def test_safe_names_hold_nothing_the_outline_is_cut_at(name: str) -> None:
    safe = safe_name(name)
    assert not set(safe) & set(",;:\n")
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("text", "words", "band"),
    [
        ("P6Y2M", "6 years", "2 to 11"),
        ("P1Y5M", "17 months", "under 2"),
        ("P18Y", "18 years", "18 to 39"),
        ("P65Y", "65 years", "65 and over"),
        ("P2M", "2 months", "under 2"),
        ("P1D", "1 day", "under 2"),
        ("P0D", "newborn", "under 2"),
        ("21 years old", "21 years", "18 to 39"),
        ("3-week-old", "21 days", "under 2"),
        ("55", "55 years", "40 to 64"),
    ],
)
def test_ages_are_understood(text: str, words: str, band: str) -> None:
    days = days_of(text)
    assert days is not None
    assert (age_text(days), age_band(days)) == (words, band)


@pytest.mark.parametrize("text", ["", "study", "P", "PT5H"])
def test_no_age_is_none(text: str) -> None:
    assert days_of(text) is None
    assert age_band(None) == "unknown"


@pytest.mark.parametrize("years", range(0, 110))
def test_whole_years_stay_whole(years: int) -> None:
    days = days_of(f"P{years}Y")
    assert days is not None
    assert age_text(days) == ("newborn" if years == 0 else f"{years} years" if years > 1 else "12 months")
