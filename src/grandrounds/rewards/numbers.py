"""Numbers as people write them, with units.

Understood: thousands separators ("1,234.5", "12 345"), decimal commas ("0,5"; but "1,234" is more than a thousand),
scientific notation ("1.2e-3", "1.2 × 10^-3", "10⁵"), fractions ("3/4"), percent. A text with two numbers, a range or
"±" names no number. Where the gold answer has no unit, units are ignored, including the percent sign. Where it has one
and the answer has none, the answer counts as being in the gold answer's unit.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pint import UnitRegistry

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_RAISED_RUN = re.compile(r"[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
# "m2", "m^2", "m**2": the exponent belongs to the unit and is not a number by itself.
_UNIT_EXPONENT = re.compile(r"(?<=[A-Za-zµμ])(?<!\d[eE])(?:\^|\*\*)?(-?[1-9])(?![\d.,^]|\*\*)")
# Glomerular filtration is given per 1.73 m². It is removed from the answer and from the gold answer.
_BODY_SURFACE = re.compile(r"/\s?1[.,]73\s?m")
_DIGIT = re.compile(r"[0-9]")
_SUPERSCRIPT_RUN = re.compile(r"(?<=\d)[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}")
_DIGITS = (
    r"(?:\d{1,3}(?:[,\u2009\u202f' ]\d{3})+(?!\d)(?:\.\d+)?"
    r"|\d{1,3}(?:\.\d{3})+,\d+|\d+(?:[.,]\d+)?|\.\d+)"
)
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[+\-−])?\s?[$€£]?(?:10\^\(?(?P<power>[+\-−]?\d{1,3})\)?"
    rf"|(?P<digits>{_DIGITS})"
    r"(?:e(?P<e>[+\-−]?\d{1,3})|\s?[x×*·]\s?10\s?\^?\s?\(?(?P<ten>[+\-−]?\d{1,3})\)?)?)"
    r"(?P<after>(?!\d)[^\d]*)",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"^\s*([+\-−]?\d{1,9})\s?/\s?(\d{1,9})\s*$")
_UNIT = re.compile(
    r"^\s?(?P<unit>[%‰°µμA-Za-z/][^\s,;()=]*"
    r"(?:\s?(?:/|per)\s?[A-Za-z0-9µμ^⁻²³.]+|\s[A-Za-zµμ]+[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)*)"
)
# pint evaluates a unit as an expression: "m^9^9^9" would keep it computing for years.
LONGEST_UNIT = 40
_EXPONENT = re.compile(r"(?:\^|\*\*)-?\d(?![\d.^]|\*\*)")
_NO_UNIT = frozenset({"in", "for", "because", "and", "is", "are", "at", "of", "to", "or", "with", "as", "so"})
_SPELLED = {"%": "percent", "‰": "permille", "mcg": "microgram", "µg": "microgram", "μg": "microgram"}


def read_number(text: str) -> tuple[float, str | None] | None:
    """The one number in a text, and the unit after it. None where there is no number or more than one."""
    text = _BODY_SURFACE.sub("/m", text)
    text = _UNIT_EXPONENT.sub(lambda match: match[1].translate(_RAISED), text)
    text = _SUPERSCRIPT_RUN.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    if match := _FRACTION.match(text):
        return (_integer(match[1]) / int(match[2]), None) if int(match[2]) else None
    found = list(_NUMBER.finditer(text))
    if len(found) != 1 or "±" in text or len(_DIGIT.findall(text)) != len(_DIGIT.findall(found[0][0])):
        return None
    match = found[0]
    if match["power"]:
        value = 10.0 ** _integer(match["power"])
    else:
        value = float(_plain_digits(match["digits"])) * 10.0 ** _integer(match["e"] or match["ten"] or "0")
    if match["sign"] in ("-", "−"):
        value = -value
    return (value, _unit_after(text[match.start("after") :])) if math.isfinite(value) else None


def _unit_after(text: str) -> str | None:
    match = _UNIT.match(text[: 2 * LONGEST_UNIT])
    if match is None or match["unit"].lower().strip(".") in _NO_UNIT:
        return None
    return match["unit"].rstrip(".") or None


def _plain_digits(digits: str) -> str:
    digits = re.sub(r"[\s\u2009\u202f']", "", digits)
    if "," in digits and "." in digits:
        decimal = max(digits.rfind(","), digits.rfind("."))
        return digits[:decimal].replace(",", "").replace(".", "") + "." + digits[decimal + 1 :]
    if re.fullmatch(r"\d{1,3}(,\d{3})+", digits):
        return digits.replace(",", "")
    return digits.replace(",", ".")


def _integer(text: str) -> int:
    return int(text.replace("−", "-"))


def equal_numbers(
    given: tuple[float, str | None], value: float, unit: str | None, tolerance: float
) -> tuple[bool, str]:
    """(whether a number with its unit equals the gold value within a relative tolerance, the layer that decided)."""
    number, given_unit = given
    layer = "number"
    if unit and given_unit and given_unit != unit:
        converted = _convert(number, given_unit, unit)
        if converted is None:
            return False, "unit"
        number, layer = converted, "number, converted"
    scale = abs(value) if value else 1.0
    # Rounding in the last digit of a floating-point product must not decide.
    return abs(number - value) <= tolerance * scale + 1e-12 * scale, layer


def _convert(number: float, unit: str, target: str) -> float | None:
    """A number in another unit. None where a unit is unknown or the dimensions differ."""
    source, aim = _spelled(unit), _spelled(target)
    if source.casefold() == aim.casefold():
        return number
    if len(source) > LONGEST_UNIT or re.search(r"\^|\*\*", _EXPONENT.sub("", source)):
        return None
    registry = _registry()
    try:
        return float(registry.Quantity(number, source).to(aim).magnitude)
    except Exception:  # for what it cannot parse, pint raises tokenize, syntax, attribute and its own errors
        return None


def _spelled(unit: str) -> str:
    unit = _UNIT_EXPONENT.sub(lambda match: match[1].translate(_RAISED), _BODY_SURFACE.sub("/m", unit))
    unit = _RAISED_RUN.sub(lambda match: "**" + match[0].translate(_SUPERSCRIPTS), unit)
    unit = f"1{unit}" if unit.startswith("/") else unit
    return re.sub(r"%|‰|\b(?:mcg|[µμ]g)\b", lambda match: _SPELLED[match[0]], unit)


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry[Any]:
    # Lazy: the registry takes a second to build, and most data sets have no unit to convert.
    from pint import UnitRegistry

    registry: UnitRegistry[Any] = UnitRegistry(autoconvert_offset_to_baseunit=True)
    for definition in ("IU = [international_unit] = iu", "mEq = [equivalent] = meq"):
        registry.define(definition)
    return registry
