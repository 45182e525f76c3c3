"""Converts ages as sources write them to days, bands and text."""

from __future__ import annotations

import re

_BANDS = ((2, "under 2"), (12, "2 to 11"), (18, "12 to 17"), (40, "18 to 39"), (65, "40 to 64"))
_ISO = re.compile(r"^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T.*)?$")
_WORDS = re.compile(r"(\d+)[\s-]*(years?|y/?o|months?|weeks?|days?|hours?)?\b", re.IGNORECASE)
_DAYS = {"y": 365.25, "m": 30.4, "w": 7.0, "d": 1.0, "h": 1 / 24}
BANDS = (*(name for _, name in _BANDS), "65 and over", "unknown")


def days_of(text: str) -> int | None:
    """Days of "P6Y2M" (ISO 8601), "6 years old" or "6" (years). None for anything else."""
    if (match := _ISO.match(text)) and any(match.groups()):
        years, months, weeks, days = (int(part or 0) for part in match.groups())
        return round(years * 365.25 + months * 30.4) + weeks * 7 + days
    found = _WORDS.search(text)
    if found is None:
        return None
    unit = (found[2] or "years")[0].lower()
    return round(int(found[1]) * _DAYS[unit])


def age_band(days: int | None) -> str:
    """The age's band, one of `BANDS`."""
    if days is None:
        return "unknown"
    return next((name for years, name in _BANDS if days < int(years * 365.25)), "65 and over")


def age_text(days: int) -> str:
    """An age in words: "6 years", "17 months", "12 days", "newborn"."""
    if days == 0:
        return "newborn"
    for size, unit, least in ((365.25, "year", 730), (30.4, "month", 30), (1.0, "day", 1)):
        if days >= least:
            count = int((days + 0.6) / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    raise AssertionError("one day is the least")
