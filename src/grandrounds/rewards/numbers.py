"""Numbers as people write them, with units.

Understood: thousands separators ("1,234.5", "12 345"), decimal commas ("0,5"; but "1,234" is more than a thousand),
scientific notation ("1.2e-3", "1.2 × 10^-3", "10⁵"), fractions ("3/4", "1 in 4"), percent, scale words ("1.2 million",
"1.5bn"), words ("twelve", "two thirds"), accountants' negatives ("(1,200)"), the result of an equation ("2+3 = 5").

A text with two numbers, a range, a bound ("<5", "at least 5") or "±" names no number. Where the gold answer has no
unit, units are ignored. Where it has one and the answer has none, the answer counts as being in the gold answer's unit.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from grandrounds.rewards.number_words import as_figures
from grandrounds.rewards.surface import unwrap
from grandrounds.rewards.units import (
    BODY_SURFACE,
    CURRENCIES,
    LONGEST_UNIT,
    RAISED,
    SUPERSCRIPTS,
    UNIT_EXPONENT,
    equal_numbers,
    one_word_units,
    scale_of,
)

Number = tuple[float, str | None]

_DIGIT = re.compile(r"[0-9]")
_SUPERSCRIPT_RUN = re.compile(r"(?<=\d)[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}")
_DIGITS = (
    r"(?:\d{1,3}(?:[,\u2009\u202f' ]\d{3})+(?!\d)(?:\.\d+)?"
    r"|\d{1,3}(?:\.\d{3})+,\d+|\d+(?:[.,]\d+)?|\.\d+)"
)
_CURRENCY = r"(?:US\$|[$€£¥]|(?:USD|EUR|GBP|CHF|JPY)\s)"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[+\-−])?\s?(?P<currency>{_CURRENCY})?\s?(?P<inner>[\-−])?(?:10\^\(?(?P<power>[+\-−]?\d{{1,3}})\)?"
    rf"|(?P<digits>{_DIGITS})"
    r"(?:e(?P<e>[+\-−]?\d{1,3})|\s?[x×*·]\s?10\s?\^?\s?\(?(?P<ten>[+\-−]?\d{1,3})\)?)?)"
    r"(?P<after>(?!\d)[^\d]*)",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"^\s*([+\-−]?\d{1,9})\s?(?:/|\s(?:out of|in)\s)\s?(\d{1,9})\s*$")
_IN_PARTS = re.compile(
    r"^\D*\b(?:half|halves|thirds?|quarters?|fourths?|fifths?|eighths?|tenths?)\D*$", re.IGNORECASE
)
_BOUND = re.compile(
    r"[<>≤≥≠]|\b(?:at (?:least|most)|(?:less|more|fewer|greater|lower|higher|larger|smaller|other|rather) than"
    r"|up to|over|under|below|above|exceed(?:s|ing)?|min(?:imum)? (?=\d)|max(?:imum)? (?=\d)|no (?=\d)|not|between)\b"
    r"|\bor (?:more|less|fewer|higher|lower|above|below|greater)\b|\d\s?\+(?!\s?\d)",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"[=≈]|\bequals?\b")
_CLAIMS = re.compile(r"[;\n]|,(?!\d)|\b(?:and|or)\b")
# A reference beside the number: "120 bpm (normal 60-100)".
_REFERENCE = re.compile(
    r"\s?[(\[](?:the )?(?:normal|normally|reference|ref|range|baseline|target|rounded|goal)\b[^()\[\]]*[)\]]\s*$",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(r"^(?P<before>[^()]*[^()\s])\s?\((?P<inside>[^()]*)\)$")
# Accountants write losses in brackets. "(5)" may be anything: only a separator or a currency makes it a loss.
_LOSS = re.compile(
    r"^(?P<outer>[$€£])?\s?\((?P<inner>[$€£])?\s?(?P<digits>\d[\d,.]*)(?P<after>[^()\d]*)\)(?P<unit>[^()\d]*)$"
)
_MINUS = re.compile(r"^(?:minus|negative)\s(?=[$€£]?\d)", re.IGNORECASE)
_UNIT = re.compile(
    r"^\s?(?P<unit>[%‰°µμA-Za-z/$€£¥][^\s,;()=]*"
    r"(?:\s?(?:/|per)\s?[A-Za-z0-9µμ^⁻²³.]+|\s[A-Za-zµμ]+[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)*)"
)
_NO_UNIT = frozenset(
    (
        "in",
        "for",
        "because",
        "and",
        "is",
        "are",
        "at",
        "of",
        "to",
        "or",
        "with",
        "as",
        "so",
        "on",
        "total",
        "overall",
    )
)


def read_number(text: str, unit: str | None = None) -> Number | None:
    """The one number in a text, and the unit after it. None where there is no number or more than one.

    unit: the unit that is asked for, so that the K of "310K" is no thousand where kelvins are.
    """
    result = _result(_tidy(text))
    return None if result is None else _read(result, unit)


def _read(text: str, unit: str | None) -> Number | None:
    if (match := _IN_BRACKETS.match(text)) and (
        _DIGIT.search(match["inside"]) or _DIGIT.search(match["before"])
    ):
        outside, inside = read_number(match["before"], unit), read_number(match["inside"], unit)
        if outside and inside:
            same = equal_numbers(inside, outside[0], outside[1], 0.01)[0]
            return outside if same else None
    text = as_figures(text)
    if _BOUND.search(text) or "±" in text:
        return None
    if match := _FRACTION.match(text):
        return (_integer(match[1]) / int(match[2]), None) if int(match[2]) else None
    found = list(_NUMBER.finditer(text))
    if len(found) != 1 or len(_DIGIT.findall(text)) != len(_DIGIT.findall(found[0][0])):
        return None
    return _number_of(found[0], text, unit)


def is_fraction(text: str) -> bool:
    """Whether a whole text is a fraction: "3/25" is 12 %, while a bare "0.12" beside "12 %" is 0.12 %."""
    return bool(_FRACTION.match(text) or _IN_PARTS.search(text))


def _tidy(text: str) -> str:
    """The text with one spelling for signs, exponents and units of several words, and without a reference range."""
    text = _REFERENCE.sub("", one_word_units(unwrap(text).strip()))
    text = BODY_SURFACE.sub("/m", text)
    text = UNIT_EXPONENT.sub(lambda match: match[1].translate(RAISED), text)
    text = _SUPERSCRIPT_RUN.sub(lambda match: "^" + match[0].translate(SUPERSCRIPTS), text)
    text = _MINUS.sub("-", text.strip("\"'“” "))
    if (loss := _LOSS.match(text)) and (loss["outer"] or loss["inner"] or "," in loss["digits"]):
        return f"-{loss['outer'] or loss['inner'] or ''}{loss['digits']}{loss['after']}{loss['unit']}"
    return text


def _result(text: str) -> str | None:
    """What stands behind the last "=", or the text. None where several things are said before it ("x = 5, y = 6")."""
    signs = list(_EQUALS.finditer(text))
    if not signs:
        return text
    result = text[signs[-1].end() :].strip()
    if not result:
        return None
    before = text[: signs[-1].start()]
    return None if _DIGIT.search(before) and _CLAIMS.search(before) else result


def _number_of(match: re.Match[str], text: str, asked: str | None) -> Number | None:
    currency = match["currency"]
    after, factor = text[match.start("after") :], 1.0
    if asked not in ("K", "M", "B", "k"):
        factor, after = scale_of(after, bool(currency))
    if match["power"]:
        value = 10.0 ** _integer(match["power"])
    else:
        value = float(_plain_digits(match["digits"])) * 10.0 ** _integer(match["e"] or match["ten"] or "0")
    if (match["sign"] in ("-", "−")) != bool(match["inner"]):
        value = -value
    unit = _unit_after(after) or (CURRENCIES[_sign_of(currency)] if currency else None)
    return (value * factor, unit) if math.isfinite(value * factor) else None


def _sign_of(currency: str) -> str:
    return currency.strip() if currency.strip() in CURRENCIES else currency.strip().lower()


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


# The whole of a text that is an amount: a number and its unit, and nothing else ("10% ethanol" is more).
_AMOUNT = re.compile(
    r"^[(+\-−]?\s?(?:US\$|[$€£¥]|USD |EUR |GBP )?\(?(?:\d[\d.,]*)?\d\)?\s?"
    r"(?:(?:thousand|million|billion|trillion)\b\s?)?[^\s\d,;]*$"
)


@lru_cache(maxsize=16_384)
def _amount(text: str) -> Number | None:
    return read_number(text) if _AMOUNT.match(text.strip()) else None


def same_amount(text: str, other: str) -> bool:
    """Whether both texts are wholly amounts ("1.2 g", "$1.2 million"), equal, with a unit both or neither."""
    given, wanted = _amount(text), _amount(other)
    if given is None or wanted is None or (given[1] is None) != (wanted[1] is None):
        return False
    return equal_numbers(given, wanted[0], wanted[1], 1e-9)[0]
