"""Units: scale words, percent, currencies, conversion, and equivalents of ions."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from grandrounds.rewards.number_words import SCALES

if TYPE_CHECKING:
    from pint import UnitRegistry

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_RAISED_RUN = re.compile(r"[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
# "m2", "m^2", "m**2": the exponent belongs to the unit and is not a number by itself.
UNIT_EXPONENT = re.compile(r"(?<=[A-Za-zµμ])(?<!\d[eE])(?:\^|\*\*)?(-?[1-9])(?![\d.,^]|\*\*)")
# Glomerular filtration is given per 1.73 m². It is removed from the answer and from the gold answer.
BODY_SURFACE = re.compile(r"/\s?1[.,]73\s?m")
# pint evaluates a unit as an expression: "m^9^9^9" would keep it computing for years.
LONGEST_UNIT = 40
_EXPONENT = re.compile(r"(?:\^|\*\*)-?\d(?![\d.^]|\*\*)")

# Units of several words, in one.
_PHRASES = tuple(
    (re.compile(pattern, re.IGNORECASE), unit)
    for pattern, unit in (
        (r"\bpercentage[ -]points?\b|(?<=\d)\s?pp\b", "percentage_point"),
        (r"\bbasis[ -]points?\b|(?<=\d)\s?bps\b", "basis_point"),
        (r"\bper ?cent\b", "%"),
        (r"\bmm\s?Hg\b", "mmHg"),
        (r"\bcm\s?H2O\b", "cmH2O"),
        (r"\bbeats?\s?(?:per|/)\s?min(?:ute)?\b|\bbpm\b", "bpm"),
        (r"(?:°|\bdegrees?)\s?(?:Celsius|C)\b", "°C"),
        (r"(?:°|\bdegrees?)\s?(?:Fahrenheit|F)\b", "°F"),
        (r"\binternational units?\b|\bunits\b(?!\s?/)|(?<=\d)\s?units?\b|(?<=\d)\s?U\b", " IU"),
        (r"\bcells\s?/", "/"),
        (r"\b(months?|mo|years?|yrs?|weeks?|days?) old\b", r"\1"),
        (r"(?<=[A-Za-zµμ²³])\s+per\s+(?=[A-Za-zµμ])|(?<=\d)\s?per\s(?=[A-Za-z])", "/"),
    )
)
_SPELLED = {
    "%": "percent",
    "‰": "permille",
    "mcg": "microgram",
    "µg": "microgram",
    "μg": "microgram",
    "cc": "milliliter",
    "bpm": "1/minute",
    "°C": "degC",
    "°F": "degF",
    "lbs": "pound",
    "hr": "hour",
    "hrs": "hour",
    "mins": "minute",
    "secs": "second",
    "mo": "month",
    "mos": "month",
    "yr": "year",
    "yrs": "year",
    "wk": "week",
    "wks": "week",
    "gm": "gram",
    "gms": "gram",
    "liters": "liter",
    "litres": "liter",
    "mEq": "milliequivalent",
    "meq": "milliequivalent",
}
_SPELLED_UNIT = re.compile(
    "°[CF]|[%‰]|(?<![A-Za-zµμ])(?:"
    + "|".join(unit for unit in _SPELLED if unit[0].isalpha() or unit[0] in "µμ")
    + ")(?![A-Za-z])"
)
CURRENCIES = {
    "$": "USD",
    "US$": "USD",
    "usd": "USD",
    "dollar": "USD",
    "dollars": "USD",
    "€": "EUR",
    "eur": "EUR",
    "euro": "EUR",
    "euros": "EUR",
    "£": "GBP",
    "gbp": "GBP",
    "¥": "JPY",
    "jpy": "JPY",
    "yen": "JPY",
    "chf": "CHF",
}
# Scale words and their short forms behind a number. Single letters only directly behind it: "1.2M", not "1.2 M".
_SHORT_SCALES = {
    "mn": 1e6,
    "mln": 1e6,
    "mio": 1e6,
    "bn": 1e9,
    "tn": 1e12,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "B": 1e9,
}
_SCALE = re.compile(
    r"(?:\s?(?P<word>thousand|million|billion|trillion|mn|mln|mio|bn|tn)s?|(?P<letter>[kKMB]))(?![A-Za-z/^²])\.?(?P<rest>.*)$",
    re.IGNORECASE | re.DOTALL,
)
# Ions of which an equivalent is not a mole.
_POLYVALENT = re.compile(
    r"calcium|magnesium|phosph|sulph|sulf|iron|ferr|zinc|copper|alumin|\b(?:Ca|Mg|Fe|Zn|Cu)\b|[a-z](?:2|²|3|³)[+⁺]"
    r"|divalent|trivalent|polyvalent",
    re.IGNORECASE,
)
_EQUIVALENT = re.compile(r"(?<![A-Za-z])(m|µ|μ|u)?Eq(?![A-Za-z])", re.IGNORECASE)


def one_word_units(text: str) -> str:
    """The text with units of several words in one: "beats per minute" becomes "bpm"."""
    for pattern, unit in _PHRASES:
        text = pattern.sub(unit, text)
    return text


def scale_of(text: str, currency: bool = False) -> tuple[float, str]:
    """(the factor of the scale word that a text behind a number begins with, the text behind it); 1 for none.

    currency: whether the number has a currency's sign, so that "$5m" is five million.
    """
    if currency and re.match(r"m(?![A-Za-z])", text):
        return 1e6, text[1:]
    match = _SCALE.match(text)
    if match is None:
        return 1.0, text
    if match["letter"]:
        factor = _SHORT_SCALES.get(match["letter"])
        return (factor, match["rest"]) if factor else (1.0, text)
    word = match["word"].lower()
    return SCALES.get(word) or _SHORT_SCALES[word], match["rest"]


def in_units_of(value: float, unit: str | None, answer: str, given: float) -> tuple[float, str | None]:
    """The gold value and unit without a scale word: 1.2 "million dollars" is 1,200,000 "dollars".

    An answer without a scale word may be in the gold answer's scale: tables give "in millions".
    """
    factor, rest = scale_of(unit or "")
    rest = rest.strip()
    if factor == 1.0:
        return value, unit
    told = re.search(r"illion|thousand|\d\s?(?:[kKMB]|mn|bn|tn|mln|mio|m)\b", answer)
    bare = not told and abs(given) < factor
    return (value if bare else value * factor), rest or None


def monovalent(text: str) -> bool:
    """Whether a mEq may be taken for a mmol: no ion of several charges is named in question, gold answer or answer."""
    return not _POLYVALENT.search(text)


def equal_numbers(
    given: tuple[float, str | None],
    value: float,
    unit: str | None,
    tolerance: float,
    *,
    equivalents: bool = False,
) -> tuple[bool, str]:
    """(whether a number with its unit equals the gold value within a relative tolerance, the layer that decided).

    equivalents: whether a mEq is a mmol. Where the gold answer has no unit, one in the answer is ignored; but a
    percentage also means its hundredth, and only that beside a gold value of at most 1.
    """
    number, given_unit = given
    if unit is None and given_unit == "%":
        close = _close(number / 100, value, tolerance) or (
            abs(value) > 1 and _close(number, value, tolerance)
        )
        return close, "number"
    layer = "number"
    if unit and given_unit and given_unit != unit:
        converted = _convert(number, given_unit, unit, equivalents)
        if converted is None:
            return False, "unit"
        number, layer = converted, "number, converted"
    return _close(number, value, tolerance), layer


def _close(number: float, value: float, tolerance: float) -> bool:
    # Rounding in the last digit of a floating-point product must not decide. Nothing but 0 is close to 0.
    return abs(number - value) <= (tolerance + 1e-12) * abs(value)


def _convert(number: float, unit: str, target: str, equivalents: bool) -> float | None:
    """A number in another unit. None where a unit is unknown or the dimensions differ."""
    unit, target = one_word_units(unit).strip(), one_word_units(target).strip()
    if equivalents:
        unit, target = (
            _EQUIVALENT.sub(lambda match: f"{match[1] or ''}mol", text) for text in (unit, target)
        )
    source, aim = _spelled(unit), _spelled(target)
    if source.casefold() == aim.casefold():
        return number
    if aim in ("degC", "degF") and source in ("C", "F"):
        source = f"deg{source}"
    if len(source) > LONGEST_UNIT or re.search(r"\^|\*\*", _EXPONENT.sub("", source)):
        return None
    registry = _registry()
    try:
        return float(registry.Quantity(number, source).to(aim).magnitude)
    except Exception:  # for what it cannot parse, pint raises tokenize, syntax, attribute and its own errors
        return None


def _spelled(unit: str) -> str:
    unit = CURRENCIES.get(unit) or CURRENCIES.get(unit.lower()) or unit
    unit = UNIT_EXPONENT.sub(lambda match: match[1].translate(RAISED), BODY_SURFACE.sub("/m", unit))
    unit = _RAISED_RUN.sub(lambda match: "**" + match[0].translate(SUPERSCRIPTS), unit)
    unit = f"1{unit}" if unit.startswith("/") else unit
    return _SPELLED_UNIT.sub(lambda match: _SPELLED[match[0]], unit)


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry[Any]:
    # Lazy: the registry takes a second to build, and most data sets have no unit to convert.
    from pint import UnitRegistry

    registry: UnitRegistry[Any] = UnitRegistry(autoconvert_offset_to_baseunit=True)
    for definition in (
        "IU = [international_unit] = iu",
        "equivalent = [equivalent] = Eq",
        "percentage_point = [percentage_point]",
        "basis_point = 0.0001 = bps",
        *(f"{code} = [{code.lower()}]" for code in sorted(set(CURRENCIES.values()))),
    ):
        registry.define(definition)
    return registry
