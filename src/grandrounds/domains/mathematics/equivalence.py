"""Whether two results are the same, by the library math-verify. Runs in a process that can be killed: simplifying what
a policy writes ("9^{9^{9^9}}") may never end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from grandrounds.domains.mathematics.expressions import is_number, is_ratio

NO_GOLD = "the gold answer cannot be read as an expression"


def equal(
    answers: Sequence[str], gold: str, log_extra: Callable[[str, Sequence[Any]], None]
) -> list[float | None]:
    """1 or 0 for each answer, and the reasons as the extra `why`; None where the gold answer is no expression."""
    found = [_compared(gold, answer) for answer in answers]
    log_extra("why", [why for _, why in found])
    return [score for score, _ in found]


def _compared(gold: str, answer: str) -> tuple[float | None, str]:
    from math_verify import verify

    right = _parsed(gold)
    if right is None:
        return None, NO_GOLD
    given = _parsed(answer)
    if given is None:
        return 0.0, "cannot be read as an expression"
    if is_number(gold):
        # "123 × 456" is equal to its product: what was to be computed must not count as its own result.
        if not is_number(answer):
            return 0.0, "not written as a number, as the gold answer is"
        if is_ratio(answer) and not is_ratio(gold) and getattr(right, "rhs", right).is_integer:
            return 0.0, "a fraction, and the gold answer is a whole number"
    elif undone := _undone(right, given):
        return 0.0, undone
    same = verify([right], [given], timeout_seconds=None)
    return (1.0, "equivalent") if same else (0.0, "not equivalent")


def _undone(gold: Any, given: Any) -> str:
    """What an answer leaves to be done or contradicts, "" for nothing."""
    import sympy

    for kind in (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative):
        if given.has(kind) and not gold.has(kind):
            return f"a {kind.__name__.lower()} is left to be computed"
    # "5 = 6" would count as 6.
    if isinstance(given, sympy.And) and not isinstance(gold, sympy.And):
        return "a chain of equations"
    if isinstance(given, sympy.Eq) and not isinstance(gold, sympy.Eq) and not given.lhs.free_symbols:
        return "an equation between numbers"
    return ""


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """The expression, of the whole text; None where there is none. Nothing is searched for within the text."""
    from math_verify import LatexExtractionConfig, parse

    found = parse(
        f"${text}$",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found[0] if found else None
