"""How a share is written: this file alone decides it, and the pages' `dom.js` writes the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

# As many digits as any float has: nothing is rounded before its last step.
_EXACT = Context(prec=1100)


def percent(share: float, digits: int = 1) -> str:
    """A share as "87.3 %". Never "100.0 %" or "0.0 %" for a share that is only close to it."""
    text, least = _rounded(100 * share, digits), 10**-digits
    if text == _rounded(100, digits) and share < 1:
        text = f"> {100 - least:.{digits}f}"
    if text == _rounded(0, digits) and share > 0:
        text = f"< {least:.{digits}f}"
    return f"{text} %"


def percents(interval: Sequence[float]) -> str:
    """An interval as "84.4 to 89.7", in per cent."""
    return f"{_rounded(100 * interval[0])} to {_rounded(100 * interval[1])}"


def points(difference: float) -> str:
    """A difference as "+25.2", in percentage points."""
    text = _rounded(100 * difference)
    return "0.0" if text in ("0.0", "-0.0") else text if difference < 0 else f"+{text}"


def _rounded(value: float, digits: int = 1) -> str:
    """The value with so many digits. A half is rounded away from zero, as in schools: 6.25 to 6.3, not to 6.2."""
    if not math.isfinite(value):
        return f"{value}"
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _EXACT))
