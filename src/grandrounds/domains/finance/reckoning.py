"""Numbers and calculations in texts: "(206.0 - 181.0) / 181.0 = 13.8%".

A number is equal to a stated one if it rounds to it at the digits that are stated. So 13.8% is 0.13812, and 14% is too.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grandrounds.rewards.surface import unwrap

LONGEST = 60  # tokens of one calculation
STEP = 0.01  # how much a step may differ from the one before, relative: its numbers were rounded
_SCALES = {
    "thousand": 1e3,
    "k": 1e3,
    "million": 1e6,
    "mn": 1e6,
    "m": 1e6,
    "billion": 1e9,
    "bn": 1e9,
    "b": 1e9,
    "trillion": 1e12,
}
_TOKEN = re.compile(
    r"(?P<number>(?<![\w.])(?:US)?[$€£¥]?\s?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:\s?(?P<percent>%|per\s?cent\b|percent\b)|\s?(?P<scale>(?:thousand|million|billion|trillion|mn|bn)\b|[kmb]\b))?)"
    r"(?:x\b)?(?!\w|\.\d)|(?P<equals>=|≈)|(?P<operator>[-+*/×÷−–·]|(?<=[\d)\s])x(?=\s?[\d($]))|(?P<open>\()|(?P<close>\))"
    r"|(?P<space>\s+)|(?P<other>\w+|.)",
    re.IGNORECASE | re.DOTALL,
)
_OPERATORS = {"×": "*", "·": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-"}
_DO: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# What is no figure of a report: the numbers of steps and list items.
_COUNTING = re.compile(
    r"^\s*\d{1,2}[.)](?=\s)|\b(?:step|figure|table|note|item)\s\d{1,2}\b|\b10-[KQ]\b",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Figure:
    """A number as stated. written: its digits as a number. factor: of its scale word, or 0.01 for percent.

    digits: stated behind the point.
    """

    text: str
    written: float
    factor: float
    digits: int

    @property
    def value(self) -> float:
        """With its scale: 5% is 0.05."""
        return self.written * self.factor

    @property
    def significant(self) -> int:
        """How many digits are stated, without leading zeros."""
        return len(re.sub(r"\D", "", self.text).lstrip("0"))

    def is_result(self, value: float) -> bool:
        """Whether a computed value rounds to this figure. 13.8 of "… * 100 = 13.8%" is a percentage already, and the
        numbers of a table in millions give millions."""
        return any(rounds_to(value / factor, self.written, self.digits) for factor in (self.factor, 1.0))


def rounds_to(value: float, stated: float, digits: int) -> bool:
    """Whether a value is the stated one at this many digits behind the point, whatever its sign."""
    return math.isfinite(value) and abs(abs(value) - abs(stated)) <= 0.5 * 10.0**-digits * (1 + 1e-9)


@dataclass(frozen=True)
class Token:
    """kind: number, operator, open, close, equals or other."""

    kind: str
    text: str
    figure: Figure | None = None


@dataclass(frozen=True)
class Calculation:
    """operands: places of its figures among the tokens. value: None where it cannot be computed. result: a place."""

    operands: tuple[int, ...]
    value: float | None
    result: int


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text, without spaces and without the numbers of steps."""
    found = []
    plain = unwrap(text) if "\\" in text else text
    for match in _TOKEN.finditer(_COUNTING.sub(" ; ", plain.replace("**", ""))):
        kind = match.lastgroup or "other"
        kind = "number" if match["number"] else kind
        if kind == "space":
            if "\n" in match[0]:
                found.append(Token("other", "\n"))
            continue
        found.append(Token(kind, match[0], _figure(match) if kind == "number" else None))
    return found


def _figure(match: re.Match[str]) -> Figure:
    digits = match["digits"].replace(",", "")
    scale = (match["scale"] or "").lower()
    factor = 0.01 if match["percent"] else _SCALES.get(scale, 1.0)
    return Figure(match["digits"], float(digits), factor, len(digits.partition(".")[2]))


def figures_in(text: str) -> list[Figure]:
    """The numbers in a text."""
    return [token.figure for token in tokens_of(text) if token.figure is not None]


def calculations_in(tokens: Sequence[Token]) -> list[Calculation]:
    """Each "a / b = number". In "a / b = c / d = 0.138 = 13.8%" both numbers are results of a / b."""
    found: list[Calculation] = []
    chain: tuple[tuple[int, ...], float | None] | None = None  # what the signs so far say is equal
    sign = -1  # the last one, where nothing but arithmetic stands between it and this one
    for place, token in enumerate(tokens):
        if token.kind != "equals":
            continue
        before, after = _run(tokens, place - 1, -1), _run(tokens, place + 1, 1)
        if len(after) == 2 and tokens[after[0]].text in ("-", "−"):
            after = after[1:]
        goes_on = bool(before) and before[0] - 1 == sign
        sign = place
        if any(tokens[i].kind == "operator" for i in before):
            value = _computed([tokens[i] for i in before])
            if goes_on and chain is not None:
                chain = (chain[0], chain[1] if _same(chain[1], value) else None)
            else:
                chain = (tuple(i for i in before if tokens[i].kind == "number"), value)
        elif not goes_on:
            chain = None
        if chain is not None and len(after) == 1 and tokens[after[0]].kind == "number":
            found.append(Calculation(*chain, after[0]))
    return found


def _same(one: float | None, other: float | None) -> bool:
    """Whether two steps of a chain are equal but for rounding in between."""
    return one is not None and other is not None and math.isclose(one, other, rel_tol=STEP)


def _run(tokens: Sequence[Token], start: int, step: int) -> list[int]:
    """Places of the arithmetic that stands at a sign, in order: up to a word, or to two numbers side by side."""
    ends, begins = ("number", "close"), ("number", "open")
    places: list[int] = []
    depth = 0
    while 0 <= start < len(tokens) and tokens[start].kind in ("number", "operator", "open", "close"):
        kind = tokens[start].kind
        left, right = (kind, tokens[places[-1]].kind) if places else ("", "")
        left, right = (left, right) if step < 0 else (right, left)
        if (left in ends and right in begins) or len(places) > LONGEST:
            break
        depth += {"close": 1, "open": -1}.get(kind, 0) * -step
        if depth < 0:
            break
        places.append(start)
        start += step
    return places[::-1] if step < 0 else places


def _computed(tokens: Sequence[Token]) -> float | None:
    if len(tokens) > LONGEST:
        return None
    parts = [
        repr(token.figure.value) if token.figure else _OPERATORS.get(token.text, token.text)
        for token in tokens
    ]
    try:
        return _value(ast.parse("".join(parts).lstrip("+*/"), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _value(node: ast.expr) -> float:
    """The value of a sum, difference, product or quotient of numbers. ValueError for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _DO:
        return _DO[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError
