"""The reward `figures`: the share of numbers in a reasoning that the case states or a stated calculation yields.

    score = max(0, supported - others) / max(stated, wanted)       wanted = min(at_least, numbers in the case)

A number is supported if the case states it, as it is or rounded to two digits or more; or if it is the result of a
calculation that is right, at the digits stated, and whose numbers are supported or constants, one of them at least
supported. The result of a wrong calculation is not supported, wherever else it may stand.

FinQA's own evaluation (Chen et al. 2021, arXiv:2109.00122) has no tolerance: it rounds the executed program's result to
five decimals and asks for equality. In prose numbers are rounded by those who write them, so the stated digits decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from grandrounds.domains.finance.reckoning import (
    Calculation,
    Figure,
    Token,
    calculations_in,
    figures_in,
    rounds_to,
    tokens_of,
)
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Case, Sample

# What a calculation may use though no report states it: counts, months, per cent, scales.
CONSTANTS = frozenset({*range(1, 11), 12, 100, 1_000, 10_000, 1_000_000, 1_000_000_000})


def make_figures(context: RewardContext, at_least: int) -> Scorer:
    """The note lists the numbers that nothing supports."""
    if type(at_least) is not int or at_least < 1:
        raise ValueError(f"at_least is {at_least!r}, and should be a whole number from 1")

    def score(sample: Sample) -> Score:
        known = _known(_text(sample.case))
        if not known:
            return Score(None)
        tokens = tokens_of(sample.response.reasoning or "")
        supported = supports(tokens, known)
        others = [tokens[place].text.strip() for place, yes in supported.items() if not yes]
        wanted = min(at_least, len(known))
        balance = len(supported) - 2 * len(others)
        return Score(max(0, balance) / max(len(supported), wanted), others or None)

    return score


def supports(tokens: Sequence[Token], known: frozenset[Figure]) -> dict[int, bool]:
    """Of each number among the tokens, but for constants in calculations: whether it is supported."""
    calculations = calculations_in(tokens)
    operands = {place for one in calculations for place in one.operands}
    results: dict[int, list[Calculation]] = {}
    for one in calculations:
        results.setdefault(one.result, []).append(one)
    yielded: list[float] = []
    supported: dict[int, bool] = {}
    for place, token in enumerate(tokens):
        figure = token.figure
        if figure is None:
            continue
        if place in results:
            supported[place] = all(_yields(one, figure, tokens, supported) for one in results[place])
            if supported[place]:
                yielded += [figure.value, *(one.value for one in results[place] if one.value is not None)]
            continue
        stated = _stated(figure, known) or any(figure.is_result(value) for value in yielded)
        if stated or place not in operands or figure.value not in CONSTANTS:
            supported[place] = stated
    return supported


def _yields(one: Calculation, result: Figure, tokens: Sequence[Token], supported: dict[int, bool]) -> bool:
    """Whether a calculation is right, and from numbers that are supported. Constants alone yield nothing."""
    known = [supported[place] for place in one.operands if place in supported]
    right = one.value is not None and result.is_result(one.value)
    return right and bool(known) and all(known)


def _stated(figure: Figure, known: frozenset[Figure]) -> bool:
    """Whether the case has a figure: as written ("in millions" stands elsewhere), or by its value."""
    if not math.isfinite(figure.written):
        return False
    for one in known:
        for given in (one.written, one.value / figure.factor):
            exact = abs(abs(given) - figure.written) <= 1e-9 * max(1.0, figure.written)
            if exact or (figure.significant >= 2 and rounds_to(given, figure.written, figure.digits)):
                return True
    return False


def _text(case: Case) -> str:
    asked = (
        [case.question]
        if isinstance(case.question, str)
        else [message.content for message in case.question if message.role != "assistant"]
    )
    return "\n".join((*case.facts, *case.context, *asked, *case.options.values()))


# The completions of a group share their case.
@lru_cache(maxsize=1024)
def _known(text: str) -> frozenset[Figure]:
    return frozenset(figures_in(text))
