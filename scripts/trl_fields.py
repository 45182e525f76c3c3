"""Writes the tables of docs/from-trl.md from the table of fields: `make results`. With --check, only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from grandrounds.trl.training_fields import FIELDS

PAGE = Path(__file__).parents[1] / "docs" / "from-trl.md"
_MARKED = re.compile(r"<!-- fields (?P<kind>\w+) -->\n.*?<!-- end -->", re.DOTALL)
HEADS = {
    "mapped": ("fields", "become"),
    "ignored": ("fields", "have no effect, because"),
    "refused": ("fields, with the one value that is taken", "other values are refused, because"),
}


def table(kind: str) -> str:
    """The fields of one class as a table, those with the same words in one row."""
    rows: dict[str, list[str]] = {}
    for field in FIELDS.values():
        if field.kind == kind:
            shown = f"`{field.name}: {field.default!r}`" if kind == "refused" else f"`{field.name}`"
            words = f"{field.text}. {field.hint}" if field.hint else field.text
            rows.setdefault(words, []).append(shown)
    lines = ["| " + " | ".join(HEADS[kind]) + " |", "|---|---|"]
    return "\n".join([*lines, *(f"| {', '.join(names)} | {words} |" for words, names in rows.items())])


def page(text: str) -> str:
    """The page's text with its tables made anew."""
    return _MARKED.sub(
        lambda match: f"<!-- fields {match['kind']} -->\n{table(match['kind'])}\n<!-- end -->", text
    )


def main() -> int:
    """Write the page; with --check, say whether it is what the fields make of it."""
    text = PAGE.read_text(encoding="utf-8")
    made = page(text)
    if made != text and "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    print(f"{PAGE.name} {'is up to date' if made == text else 'is not what the fields say'}")
    return int(made != text and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
