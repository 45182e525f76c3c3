"""The polarity of findings, present or absent: "fever" and "no fever"."""

from __future__ import annotations

import re

_DENIAL = re.compile(
    r"^(?:no evidence of|no|not|without|denies|denied|absent|absence of|lack of|negative for)\s+(?=\S)"
)
_DENIED_AFTER = re.compile(r"\s+(?:absent|denied|excluded|not present|is absent)$")


def affirm(finding: str) -> str | None:
    """What a normalised finding denies ("no fever" -> "fever"). None for a finding that denies nothing."""
    for pattern in (_DENIAL, _DENIED_AFTER):
        rest, count = pattern.subn("", finding, count=1)
        if count and rest:
            return rest
    return None


def denial(finding: str) -> str:
    """A normalised finding with its denial in the form "no …". A finding that denies nothing is unchanged."""
    denied = affirm(finding)
    return finding if denied is None else f"no {denied}"
