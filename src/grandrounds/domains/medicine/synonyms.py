"""Other names of the same thing: lay names, eponyms, spellings, international and trade names of drugs.

They stand in the files of the folder `names`, one thing a line: its name, a colon, its other names with semicolons
between them. Each means the same wherever it stands: a wider or a narrower name is none ("lung tumor" is not "lung
cancer"). "Acute …" stands beside the bare name only where the bare name means nothing else ("appendicitis").

    conditions         conditions and findings
    drugs              drugs, hormones and vitamins: the United States adopted name first
    organisms          the short form ("S. aureus") is added where it is one organism's only
    tests_and_anatomy  tests, procedures and parts of the body
    word_forms         organs, and the adjectives that stand for them: "renal failure" is "kidney failure"
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

_FOLDER = Path(__file__).parent / "names"


def _read(name: str) -> dict[str, tuple[str, ...]]:
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {thing: tuple(other.strip() for other in others.split(";") if other) for thing, _, others in pairs}


def _with_short_forms(organisms: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    short = {name: f"{name[0]}. {name.partition(' ')[2]}" for name in organisms}
    times = Counter(short.values())
    return {
        name: (*others, short[name]) if times[short[name]] == 1 else others
        for name, others in organisms.items()
    }


SYNONYMS: dict[str, tuple[str, ...]] = {
    **_read("conditions"),
    **_read("drugs"),
    **_read("tests_and_anatomy"),
    **_read("word_forms"),
    **_with_short_forms(_read("organisms")),
}
