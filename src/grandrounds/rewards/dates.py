"""Dates as people write them: "5 March 2024", "Mar. 5th, 2024", "2024-03-05", "31.12.2021", "12/31/2021".

With figures only, and two of them at most 12, day and month cannot be told apart: "03/05/2024" is no date here, unless
the year stands first or the figures stand between full stops.
"""

from __future__ import annotations

import re
from functools import lru_cache

# (year, month, day)
Date = tuple[int, int, int]

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DAY, _YEAR = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?P<year>\d{4})"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?:on |the )*{_DAY}\s(?:of\s)?{_MONTH},?\s{_YEAR}",
        rf"(?:on )?{_MONTH}\s(?:the )?{_DAY},?\s{_YEAR}",
        rf"{_YEAR}[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)",
        rf"(?P<day>\d\d?)\.(?P<month>\d\d?)\.{_YEAR}",
        rf"(?P<month>\d\d?)/(?P<day>1[3-9]|2\d|3[01])/{_YEAR}",
        rf"(?P<day>1[3-9]|2\d|3[01])/(?P<month>\d\d?)/{_YEAR}",
    )
)


@lru_cache(maxsize=4096)
def read_date(text: str) -> Date | None:
    """The date that a whole text is, or None."""
    text = text.strip()
    for form in _FORMS if len(text) <= 40 else ():
        if match := form.fullmatch(text):
            month, day = match["month"].lower(), int(match["day"])
            number = int(month) if month.isdigit() else _MONTHS[month[:3]]
            return (int(match["year"]), number, day) if 1 <= number <= 12 and 1 <= day <= 31 else None
    return None


def same_date(text: str, other: str) -> bool:
    """Whether both texts are the same date."""
    date = read_date(other)
    return date is not None and read_date(text) == date
