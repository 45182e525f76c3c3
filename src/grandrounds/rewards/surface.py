r"""What an answer is wrapped in, removed: full-width characters, LaTeX, markdown, "The answer is …", reasons.

`said` reads the part of a text that says what is final; where nothing says so, it is the whole text:

    "$\boxed{\text{B}}$"                        "B"
    "It is not B, the answer is D."             "D."
    "The final answer is B. No, it is C. …"     unchanged but for its wrapping

Nothing here knows the gold answer or the options, and no rule changes what a text means.
"""

from __future__ import annotations

import re

MARKDOWN = re.compile(r"\*\*|__|`|^#{1,3}\s", re.MULTILINE)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    0x3000: " ",
    ord("。"): ". ",
    ord("、"): ", ",
}
# "$x$", but no "$5 or $6": pandoc's rule for dollar signs.
_DOLLARS = re.compile(r"\$\$?(?=\S)([^$]*+)(?<=\S)\$\$?(?!\d)")
_FRACTION = re.compile(r"\\[dtc]?frac\s?(?:\{([^{}]*+)\}|(\d))\s?(?:\{([^{}]*+)\}|(\d))")
_SPACES = re.compile(r"\\[()\[\]!,;:]|\{,\}(?=\d)|\\q?quad\b")
_STYLE = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf)|mbox|operatorname|boldsymbol|bm|boxed|fbox"
    r"|left|right|displaystyle|large|Large|bf|rm|it)(?![A-Za-z])\*?\s?"
)
_SIGN = re.compile(r"\\(?:([%$&#_])|([A-Za-z]+))")
_SIGNS = {
    "times": "×",
    "cdot": "·",
    "pm": "±",
    "approx": "≈",
    "simeq": "≈",
    "sim": "≈",
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "lt": "<",
    "gt": ">",
    "neq": "≠",
    "circ": "°",
    "degree": "°",
    "mu": "µ",
    "pi": "π",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
}
_BOX = re.compile(r"\\boxed\s?\{")
# What stands before a box that is not the answer by itself: "not \boxed{B}", "A, \boxed{B}".
_NO_END = re.compile(
    r"(?:\b(?:not|no|nor|n't|or|and|than|except|either|neither|vs|\w)|[/&+])[\s$,]*$", re.IGNORECASE
)

_NOUN = r"(?:answers?|options?|choices?|diagnosis|label|verdict|letters?)"
_FINAL = re.compile(
    rf"(?:\bfinal {_NOUN}(?:\s(?:is|are|would be)\b)?\s?[:=]?|^\s*#{{4}})\s?", re.IGNORECASE | re.MULTILINE
)
_STATED = re.compile(
    rf"\b(?:(?:the|my|our) (?:(?:most likely|most appropriate|correct|best|right) )?{_NOUN} (?:is|are|would be)\b\s?:?"
    rf"|(?:(?:the|my) )?(?:correct )?{_NOUN}\s?[:=])\s?",
    re.IGNORECASE,
)
# In the clause before "the answer is …", these make it no statement.
_DOUBT = re.compile(
    r"\b(?:if|whether|unless|no|not|n't|cannot|doubt\w*|unlikely|could|might|may|maybe|perhaps|suppose\w*)\b"
    r"|n't\b",
    re.IGNORECASE,
)

_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore|overall|in conclusion),?\s)?"
    r"(?:(?:i(?:'d| would| will|'ll)? )?(?:think|believe|choose|pick|select|say|go with)(?: that)?\s)?"
    r"(?:among (?:the|these) options,\s)?(?:this is(?! not\b)\s)?"
    r"(?:(?:the|this) patient (?:likely )?(?:has|is having)\s)?"
    r"(?:it(?:'s| is)(?! not\b)(?= [^\s]))?\s?"
    r"(?:(?:(?:the|my|our)\s)?(?:(?:most likely|most appropriate|correct|best|final|right)\s){0,2}"
    rf"(?:{_NOUN}|ans|classification|decision)\b\.?(?:\s?(?:is|are|would be|must be)\b)?\s?(?:[:=]|-(?=\s))?\s)?"
    r"(?:(?:option|choice|letter)s?\s)?"
    r"(?:(?:most likely|probably|likely|definitely|clearly)(?=\s[^\s]))?\s?",
    re.IGNORECASE,
)
_FOREIGN = re.compile(
    r"^(?:(?:正确|应|故|因此)?(?:答案|选项|选择|选)\s?(?:是|为|选)?\s?:?"
    r"|(?:die |la |a )?(?:antwort|respuesta|réponse|risposta|resposta|ответ)\s?(?::|(?:ist|es|est|è|é)(?=\s)))\s?",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"\s(?:is|are|would be)(?: the)? (?:correct|right|best|most likely|most appropriate)"
    r"(?: (?:answer|option|choice|diagnosis|one)s?)?$|\sis the answer$",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"(?:^|,?\s)\(?(?:because|since|as it|as the|as he|as she|given that|due to the fact)\s.*$",
    re.IGNORECASE | re.DOTALL,
)


def unwrap(text: str) -> str:
    """The text with plain characters in the place of full-width ones, LaTeX and braces."""
    text = text.translate(_FULL_WIDTH)
    if "$" in text:
        text = _DOLLARS.sub(r"\1", text)
    if "\\" in text:
        text = _FRACTION.sub(_over, text)
        text = _SPACES.sub(lambda match: "," if match[0].startswith("{") else "", text)
        text = _SIGN.sub(_sign, _STYLE.sub("", text.replace("^{\\circ}", "°").replace("^\\circ", "°")))
    return text.replace("{,}", ",").replace("{", "").replace("}", "")


def _over(match: re.Match[str]) -> str:
    above, below = match[1] or match[2] or "", match[3] or match[4] or ""
    simple = (above + below).replace(".", "").isalnum()
    return f" {above}/{below}" if simple else f" ({above})/({below})"


def _sign(match: re.Match[str]) -> str:
    return match[1] or _SIGNS.get(match[2], match[0])


def said(text: str) -> str:
    """The part of a text that it says is final, unwrapped, with its line breaks; else the whole text."""
    boxed = _boxed(text)
    text = unwrap(text if boxed is None else boxed).strip()
    bare = MARKDOWN.sub("", text)
    for pattern in (_FINAL, _STATED):
        starts = list(pattern.finditer(bare))
        if not starts:
            continue
        ends = [match.start() for match in starts[1:]] + [len(bare)]
        parts = [bare[match.end() : end].strip() for match, end in zip(starts, ends, strict=True)]
        stated = all(not _DOUBT.search(_clause_before(bare, match.start())) for match in starts)
        if stated and len({part.strip(" .") for part in parts}) == 1 and parts[-1]:
            return parts[-1]
        break
    return text


def _clause_before(text: str, place: int) -> str:
    return re.split(r"[,.;:!?\n]", text[max(0, place - 80) : place])[-1]


def _boxed(text: str) -> str | None:
    """What the box at the end of a text holds; None where there is none, or where two boxes differ."""
    held: list[str] = []
    end, first = 0, None
    while match := _BOX.search(text, end):
        first = match.start() if first is None else first
        end = _closing(text, match.end())
        if end == 0:
            return None
        held.append(text[match.end() : end - 1])
    if len(set(held)) != 1 or first is None or text[end:].strip(" $.\n\\])"):
        return None
    return None if _NO_END.search(text[:first].rstrip(" $\\([")) else held[0]


def _closing(text: str, start: int) -> int:
    """The place after the brace that closes the one before `start`, or 0."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return 0


def one_line(answer: str) -> str:
    """The answer in one line, without markdown and final period."""
    return " ".join(MARKDOWN.sub("", answer).split()).strip("*_").removesuffix(".")


def plain(answer: str) -> str:
    """The answer in one line, without "The answer is …" before it and "… is correct" behind it."""
    line = _FOREIGN.sub("", one_line(answer), count=1)
    return _TAIL.sub("", _LEAD.sub("", line, count=1)).strip()


def without_reason(text: str) -> str:
    """A plain answer without its reason: "Pericarditis, because of the friction rub" becomes "Pericarditis"."""
    return _REASON.sub("", text).strip()
