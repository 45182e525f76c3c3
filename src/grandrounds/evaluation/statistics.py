"""The statistics of an evaluation, as functions of numbers. All intervals are two-sided 95 % intervals
unless they are told otherwise.

wilson            interval of a proportion                Wilson 1927, doi:10.1080/01621459.1927.10502953
clopper_pearson   exact interval of a proportion          Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404
mcnemar_exact     do two policies differ on paired cases  McNemar 1947, doi:10.1007/BF02295996, exact binomial
paired_bootstrap  interval of their difference            Efron & Tibshirani 1993, chapter 13
pass_at_k         is one of k samples right, unbiased     Chen et al. 2021, arXiv:2107.03374, equation 1
maj_at_k          is the vote of k samples right          Wang et al. 2022, arXiv:2203.11171
holm              p-values of several tests at once       Holm 1979, Scandinavian Journal of Statistics 6(2)
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054  # the 97.5th percentile of the standard normal distribution
RESAMPLES = 10_000
# Indices that the bootstrap draws at once: 16 MB.
_BLOCK = 2_000_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Share:
    """A proportion (or a mean of scores in [0, 1]), its denominator and its interval.

    interval: Wilson's, for proportions. Where cases have several answers, it uses the effective number of answers.
    """

    value: float
    of: int
    interval: Interval


def wilson(successes: float, count: float, z: float = Z95) -> Interval:
    """Wilson's score interval of a proportion; (0, 1) where nothing was counted.

        centre ± z / (1 + z²/n) sqrt(p (1 - p) / n + z² / 4n²),   centre = (p + z²/2n) / (1 + z²/n)

    successes and count may be fractional, since an effective sample size may be.
    """
    if count <= 0:
        return 0.0, 1.0
    if not 0 <= successes <= count:
        raise ValueError(f"{successes} successes of {count}")
    share, square = successes / count, z * z
    centre = (share + square / (2 * count)) / (1 + square / count)
    spread = share * (1 - share) / count + square / (4 * count * count)
    half = z / (1 + square / count) * math.sqrt(spread)
    # At the ends the interval reaches 0 or 1 exactly; rounding must not change that.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == count else min(1.0, centre + half)
    return low, high


def clopper_pearson(successes: float, count: int, error: float = 0.05) -> Interval:
    """The exact interval of a proportion: it misses the true one with a probability of at most `error`.

    Its ends are the shares at which so many successes or more, and so many or fewer, have a probability of error / 2.
    Fractional successes are taken as both neighbours.
    """
    fewest, most = math.floor(round(successes, 6)), math.ceil(round(successes, 6))
    k = np.arange(count + 1)
    ways = np.array([math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1) for i in k])

    def probability(share: float, counted: slice) -> float:
        logs = ways + k * math.log(share) + (count - k) * math.log1p(-share)
        return float(np.exp(logs[counted]).sum())

    low = _root(lambda share: probability(share, slice(fewest, None)) - error / 2) if fewest > 0 else 0.0
    high = _root(lambda share: error / 2 - probability(share, slice(most + 1))) if most < count else 1.0
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises between 0 and 1 is 0."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def effective_count(case_means: np.ndarray, samples: int) -> float:
    """The number of independent answers that n cases with `samples` answers each are worth: from n to n * samples.

    n_eff = p (1 - p) / Var(mean of the case means). Answers to the same case are correlated: counting them as
    independent would make intervals too narrow.
    """
    count = len(case_means)
    if samples == 1 or count < 2:
        return float(count)
    mean, variance = float(case_means.mean()), float(case_means.var(ddof=1)) / count
    if variance <= 0:
        return float(count)
    return float(np.clip(mean * (1 - mean) / variance, count, count * samples))


@dataclass(frozen=True)
class McNemar:
    """Discordant cases, and the two-sided p-value under the hypothesis that the policies do not differ.

    only_first, only_second: cases that only one policy got right (b and c).
    p may underflow to 0 beyond some thousand cases; log10_p never does.
    """

    only_first: int
    only_second: int
    p: float
    log10_p: float


def mcnemar_exact(only_first: int, only_second: int) -> McNemar:
    """Exact two-sided McNemar test: under the hypothesis, each discordant case is a fair coin toss.

    p = min(1, 2 * sum over i <= min(b, c) of C(b + c, i) / 2^(b + c)), summed in logarithms.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"negative counts: {only_first}, {only_second}")
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer >= tosses - 1:
        # The two tails together cover everything, and count the middle twice: p is 1.
        return McNemar(only_first, only_second, 1.0, 0.0)
    i = np.arange(1, fewer + 1, dtype=np.float64)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((tosses - i + 1) / i))])
    log_tail = float(np.logaddexp.reduce(log_choose))
    log_p = min(0.0, log_tail + (1 - tosses) * math.log(2))
    return McNemar(only_first, only_second, math.exp(log_p), log_p / math.log(10))


def paired_bootstrap(
    differences: Sequence[float] | np.ndarray,
    *,
    groups: Sequence[Hashable] | None = None,
    key: tuple[int | str, ...] = (0,),
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile interval of the mean of per-case differences [n], by resampling cases.

    groups: what each case belongs to (a patient, a publication). Whole groups are then resampled, since cases of one
        group are not independent of each other.
    key: the seed. The result depends only on the key and on the data, including their order.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no differences to resample")
    names = list(range(len(values))) if groups is None else list(groups)
    index = {name: place for place, name in enumerate(dict.fromkeys(names))}
    member = np.array([index[name] for name in names])
    sums = np.bincount(member, weights=values)  # [G]
    sizes = np.bincount(member).astype(np.float64)  # [G]
    generator = keyed_generator(key)
    rows = max(1, _BLOCK // len(sums))
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        block = means[start : start + rows]
        drawn = generator.integers(len(sums), size=(len(block), len(sums)))
        block[:] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The probability that at least one of k samples is right, if `correct` of `samples` were; an unbiased estimate.

    1 - C(n - c, k) / C(n, k), as a product, so that nothing overflows.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"{correct} of {samples} correct, k = {k}")
    if samples - correct < k:
        return 1.0
    misses = np.arange(samples - correct + 1, samples + 1, dtype=np.float64)
    return float(1.0 - np.prod(1.0 - k / misses))


def maj_at_k(votes: Sequence[str | None], correct: Sequence[bool]) -> float:
    """The probability that the most frequent answer of all k samples is right. Equal answers vote together.

    None (no readable answer) does not vote; without any vote the result is 0. With a tie, the result is the expectation
    over drawing one of the tied answers, so that neither order nor chance decides.
    """
    marks: dict[str, list[bool]] = defaultdict(list)
    for vote, mark in zip(votes, correct, strict=True):
        if vote is not None:
            marks[vote].append(mark)
    if not marks:
        return 0.0
    most = max(map(len, marks.values()))
    return float(np.mean([np.mean(mark) for mark in marks.values() if len(mark) == most]))


def holm(log10_ps: Sequence[float]) -> list[float]:
    """The p-values (as log10, in and out) that allow for all of these tests at once.

    Sorted upwards, the i-th of m is multiplied by m - i + 1, never below the one before, and at most 1.
    """
    order = sorted(range(len(log10_ps)), key=lambda place: log10_ps[place])
    adjusted, reached = [0.0] * len(log10_ps), -math.inf
    for rank, place in enumerate(order):
        reached = max(reached, min(0.0, log10_ps[place] + math.log10(len(log10_ps) - rank)))
        adjusted[place] = reached
    return adjusted


def keyed_generator(key: tuple[int | str, ...]) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
