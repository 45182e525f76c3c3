"""Intervals, tests and estimators against known values and their defining properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.evaluation.statistics import (
    clopper_pearson,
    effective_count,
    maj_at_k,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
    wilson,
)

# scipy 1.17.1: binomtest(successes, count).proportion_ci(method="wilson"). (81, 263) and (15, 148) are also
# in Newcombe 1998, Statistics in Medicine 17, table I.
WILSON = [
    (0, 10, 0.0, 0.27753279986288926),
    (10, 10, 0.7224672001371109, 1.0),
    (1, 10, 0.017876213095072896, 0.4041500267952385),
    (5, 10, 0.236593090512564, 0.7634069094874361),
    (81, 263, 0.2552885198782742, 0.36620957698280004),
    (15, 148, 0.06238639953073629, 0.16048724172330803),
    (510, 600, 0.8192063850925662, 0.8763404241978434),
    (599, 600, 0.990620439523861, 0.9997057317991503),
    (1, 1, 0.20654931437723745, 1.0),
]

# scipy 1.17.1: binomtest(min(b, c), b + c, 0.5).pvalue.
MCNEMAR = [
    (0, 0, 1.0),
    (1, 0, 1.0),
    (0, 5, 0.0625),
    (10, 2, 0.03857421875),
    (12, 5, 0.143463134765625),
    (3, 4, 1.0),
    (31, 182, 3.383935093254609e-27),
    (0, 600, 4.819839730205768e-181),
    (100, 900, 1.3403435580012363e-161),
]


@pytest.mark.parametrize(("successes", "count", "low", "high"), WILSON)
def test_wilson_equals_the_reference(successes, count, low, high):
    assert wilson(successes, count) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("successes", "count"), [(1, 1), (0, 10), (1, 10), (5, 10), (10, 10), (81, 263)])
def test_at_the_ends_of_the_exact_interval_what_was_seen_is_as_rare_as_the_error(successes, count):
    def probability(share, ks):
        return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in ks)

    low, high = clopper_pearson(successes, count, 0.01)
    assert (
        low == 0 if successes == 0 else probability(low, range(successes, count + 1)) == pytest.approx(0.005)
    )
    assert (
        high == 1 if successes == count else probability(high, range(successes + 1)) == pytest.approx(0.005)
    )


def test_fractional_successes_widen_the_exact_interval_to_both_neighbours():
    assert clopper_pearson(4.5, 10) == (clopper_pearson(4, 10)[0], clopper_pearson(5, 10)[1])
    assert clopper_pearson(0.3 * 10, 10) == clopper_pearson(3, 10)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_mirrors(counts):
    successes, count = counts
    low, high = wilson(successes, count)
    assert 0 <= low <= successes / count <= high <= 1
    assert wilson(count - successes, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


@pytest.mark.parametrize(("b", "c", "p"), MCNEMAR)
def test_mcnemar_equals_the_reference_either_way_round(b, c, p):
    assert mcnemar_exact(b, c).p == pytest.approx(p, rel=1e-9)
    assert mcnemar_exact(c, b).p == pytest.approx(p, rel=1e-9)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_exact_integer_sums(b, c):
    tosses = b + c
    tail = 2 * sum(math.comb(tosses, i) for i in range(min(b, c) + 1)) / 2**tosses
    assert mcnemar_exact(b, c).p == pytest.approx(min(1.0, tail), rel=1e-10)


def test_tiny_p_keeps_its_logarithm_where_it_underflows():
    # scipy's p is 0.0 here. By exact integers: log10(2 (1 + 2001) / 2^2001).
    test = mcnemar_exact(1, 2000)
    assert test.p == 0.0
    assert test.log10_p == pytest.approx(math.log10(2 * 2002) - 2001 * math.log10(2), abs=1e-8)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def test_bootstrap_agrees_with_the_normal_approximation_on_many_cases():
    differences = np.array([1.0] * 182 + [-1.0] * 31 + [0.0] * 387)
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    low, high = paired_bootstrap(differences)
    assert low == pytest.approx(differences.mean() - 1.96 * error, abs=0.004)
    assert high == pytest.approx(differences.mean() + 1.96 * error, abs=0.004)


def test_bootstrap_is_a_function_of_its_key():
    differences = np.array([1.0, 0.0, -1.0, 1.0, 0.0, 1.0, 0.5])
    assert paired_bootstrap(differences, key=(1, "a")) == paired_bootstrap(differences, key=(1, "a"))
    draws = {paired_bootstrap(differences, key=(seed,), resamples=50) for seed in range(20)}
    assert len(draws) > 1


def test_bootstrap_does_not_depend_on_how_it_is_blocked(monkeypatch):
    differences = np.array([1.0, 0.0, -1.0, 1.0, 0.0])
    whole = paired_bootstrap(differences, resamples=1000)
    monkeypatch.setattr("grandrounds.evaluation.statistics._BLOCK", 37)
    assert paired_bootstrap(differences, resamples=1000) == whole


def test_bootstrap_of_alike_groups_is_wider_than_of_cases():
    differences = np.repeat([1.0, 0.0, -1.0, 1.0, 0.0, 1.0, 0.0, 1.0], 10)
    groups = np.repeat(list("abcdefgh"), 10)
    narrow, wide = paired_bootstrap(differences), paired_bootstrap(differences, groups=groups)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


@settings(max_examples=30)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=40))
def test_bootstrap_stays_within_the_data(differences):
    low, high = paired_bootstrap(differences, resamples=200)
    assert min(differences) <= low <= high <= max(differences)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(drawn):
    samples, correct, k = drawn
    subsets = list(itertools.combinations([True] * correct + [False] * (samples - correct), k))
    assert pass_at_k(samples, correct, k) == pytest.approx(np.mean([any(s) for s in subsets]))


def test_pass_at_k_of_many_samples_does_not_overflow():
    # 1 - comb(9900, 1000) / comb(10000, 1000), by exact integers.
    assert pass_at_k(10_000, 100, 1000) == pytest.approx(0.9999748697869775, abs=1e-12)


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)])
def test_pass_at_k_refuses_what_makes_no_sense(samples, correct, k):
    with pytest.raises(ValueError, match="correct"):
        pass_at_k(samples, correct, k)


@pytest.mark.parametrize(
    ("votes", "right", "share"),
    [
        (["A", "A", "B"], {"A"}, 1.0),
        (["A", "B", "B"], {"A"}, 0.0),
        (["A", "B"], {"A"}, 0.5),
        (["A", "B", "C", None], {"A"}, 1 / 3),
        ([None, None, "A"], {"A"}, 1.0),
        ([None, None], {"A"}, 0.0),
        ([], {"A"}, 0.0),
    ],
)
def test_majority_vote_splits_ties_fairly(votes, right, share):
    assert maj_at_k(votes, [vote in right for vote in votes]) == pytest.approx(share)


@given(st.lists(st.sampled_from(["A", "B", "C", None]), min_size=1, max_size=9), st.randoms())
def test_majority_vote_does_not_depend_on_order(votes, random):
    shuffled = votes[:]
    random.shuffle(shuffled)
    shares = [maj_at_k(order, [vote == "A" for vote in order]) for order in (votes, shuffled)]
    assert shares[0] == pytest.approx(shares[1])


def test_answers_to_one_case_count_once_when_they_always_agree():
    assert effective_count(np.array([0.0, 1.0] * 50), samples=8) == pytest.approx(100, rel=0.02)


def test_answers_to_one_case_count_each_when_they_are_independent():
    means = np.random.default_rng(0).binomial(8, 0.5, size=4000) / 8
    assert effective_count(means, samples=8) == pytest.approx(32_000, rel=0.06)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30))
def test_effective_count_lies_between_cases_and_answers(means):
    assert len(means) <= effective_count(np.array(means), samples=4) <= 4 * len(means)
