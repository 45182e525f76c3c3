"""Citations in texts: sections, clauses, articles, paragraphs, rules, schedules, recitals, and cases in reporters.

§ 12(3)   §§ 12, 13   Section 12(3)   Clause 4.2   Art. 6 Abs. 1 lit. f DSGVO   15 U.S.C. § 78j(b)   410 U.S. 113
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Contracts call the same thing a section or a clause.
_KINDS = {
    "section": r"§§?|sections?|secs?\.|clauses?|cls?\.|(?<!['’])ss?\.(?=\s?\d)",
    "article": r"articles?|arts?\.|artikel",
    "paragraph": r"¶¶?|paragraphs?|paras?\.?",
    "rule": r"rules?",
    "schedule": r"schedules?",
    "annex": r"annex(?:es)?|appendix",
    "recital": r"recitals?",
}
_NUMBER = r"\d{1,5}[a-z]{0,2}(?:\.\d{1,3})*(?![\w%])"
_SUB = r"\s?\((?:\d{1,2}[a-z]?|[a-z]{1,2}|[ivx]{1,5}|[A-Z])\)|\s(?:abs\.|lit\.|nr\.|satz)\s?\w{1,2}\b"
_PART = rf"{_NUMBER}(?:{_SUB})*"
_LIST = rf"{_PART}(?:\s?(?:,|;|and|or|to|und|&|–|-)\s?(?:and\s)?{_PART})*"
_LAW = r"(?:\s?(?:of|under|der|des)\s(?:the\s)?)?\s?(?-i:(?P<after>[A-Z][A-Za-z]*[A-Z]{1,}))\b"
_BEFORE = r"(?:(?-i:(?P<before>[A-Z][A-Za-z]*[A-Z]|(?:[A-Z]\.){2,}))\s)?"
_WORDS = "|".join(f"(?P<{kind}>{words})" for kind, words in _KINDS.items())
_CITED = re.compile(rf"{_BEFORE}(?<!\w)(?:{_WORDS})\s?(?P<list>{_LIST})(?:{_LAW})?", re.IGNORECASE)
_ONE = re.compile(rf"(?P<number>{_NUMBER})(?P<subs>(?:{_SUB})*)", re.IGNORECASE)
_LABEL = re.compile(r"\(?(\w+)\)?$")
# "410 U.S. 113", "123 F.3d 456", "45 F. Supp. 2d 678".
_SERIES = r"(?:[A-Z]|Supp|Ct|Ed|App|Rptr|Cal|Ill|Mass|Wash|Misc|Wis|Cir)\. ?"
_REPORTER = re.compile(
    rf"(?<![\d.,])(\d{{1,4}}) ((?:{_SERIES}){{1,3}}(?:\d[a-z]{{1,2}}\.? ?)?)(\d{{1,5}})(?![\d%])"
)
# A clause that begins a line with its number: "4.2 The tenant shall …".
_HEADING = re.compile(r"^\s*(\d{1,3}(?:\.\d{1,3})*)[.)]?\s+(?=[A-Za-z(\"“])", re.MULTILINE)
ANY = "any"


@dataclass(frozen=True)
class Citation:
    """kind: "section", "article", …, "reporter", or "any" for a numbered line. subs: ("3", "a") of § 12(3)(a).

    law: "GDPR", or "" where none is named beside it.
    """

    kind: str
    number: str
    subs: tuple[str, ...] = ()
    law: str = ""

    def __str__(self) -> str:
        subs = "".join(f"({sub})" for sub in self.subs)
        return " ".join(filter(None, (self.kind, self.number + subs, self.law)))


def citations_in(text: str) -> tuple[Citation, ...]:
    """The citations in a text, each once, in order."""
    found = []
    for match in _CITED.finditer(text):
        kind = next(kind for kind in _KINDS if match[kind])
        law = (match["after"] or match["before"] or "").replace(".", "").upper()
        for one in _ONE.finditer(match["list"]):
            subs = re.findall(_SUB, one["subs"], re.IGNORECASE)
            labels = tuple(label[1].lower() for part in subs if (label := _LABEL.search(part.strip())))
            found.append(Citation(kind, one["number"].lower(), labels, law))
    for volume, reporter, page in _REPORTER.findall(text):
        name = re.sub(r"[. ]", "", reporter).lower()
        if name not in ("usc", "cfr"):  # volumes of a code, whose § is found above
            found.append(Citation("reporter", f"{volume} {name} {page}"))
    return tuple(dict.fromkeys(found))


def headings_in(text: str) -> tuple[Citation, ...]:
    """The numbers that begin lines, as citations of any kind."""
    return tuple(dict.fromkeys(Citation(ANY, number) for number in _HEADING.findall(text)))


def stands_in(cited: Citation, known: tuple[Citation, ...], text: str) -> bool:
    """Whether a text with these citations and headings has what is cited, in full or more precisely.

    A paragraph that the text does not cite itself must at least be labelled in it: "(3)". A law that it does not name
    beside the number must be named somewhere.
    """
    for one in known:
        if one.number != cited.number or one.kind not in (cited.kind, ANY):
            continue
        if cited.law and one.law and cited.law != one.law:
            continue
        if (
            cited.law
            and not one.law
            and not re.search(rf"\b{re.escape(cited.law)}\b", text.upper().replace(".", ""))
        ):
            continue
        rest = cited.subs[len(one.subs) :] if one.subs == cited.subs[: len(one.subs)] else None
        if cited.subs == one.subs[: len(cited.subs)]:
            return True
        if rest is not None and all(f"({sub})" in text.lower() for sub in rest):
            return True
    return False
