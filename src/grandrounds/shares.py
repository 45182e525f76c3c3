"""How a share is written: this file alone decides it."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float, digits: int = 1) -> str:
    """A share as "87.3 %". Never "100.0 %" or "0.0 %" for a share that is only close to it."""
    text, least = f"{100 * share:.{digits}f}", 10**-digits
    if text == f"{100:.{digits}f}" and share < 1:
        text = f"> {100 - least:.{digits}f}"
    if text == f"{0:.{digits}f}" and share > 0:
        text = f"< {least:.{digits}f}"
    return f"{text} %"


def percents(interval: Sequence[float]) -> str:
    """An interval as "84.4 to 89.7", in per cent."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def points(difference: float) -> str:
    """A difference as "+25.2", in percentage points."""
    return f"{100 * difference:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")
