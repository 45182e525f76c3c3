"""A recipe in the making from TRL's fields, and a note on what became of each field."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from grandrounds.errors import RecipeError
from grandrounds.trl.batches import Batches

NoteKind = Literal["mapped", "changed", "no effect", "unsupported"]

# What a TRL run is not, whatever its fields say: no system message or template of ours, no warm-up, no guard.
BASE: dict[str, Any] = {
    "prompt.system": "",
    "prompt.raw": True,
    "policy.adapter": "full",
    "guard.enabled": False,
    "grpo.schedule_by": "step",
}
# A reward function may take its time, and is called once.
REWARD: dict[str, Any] = {"timeout_seconds": 86400.0, "retries": 0}
# Characters of a value that a table shows, and of a line where no terminal limits it.
LONGEST_VALUE, UNLIMITED = 40, 10_000


@dataclass(frozen=True)
class Note:
    """What became of one field. text: its recipe keys, what differs, or why it has no effect or is refused."""

    field: str
    value: Any
    kind: NoteKind
    text: str
    hint: str = ""


@dataclass
class Translation:
    """A recipe in the making. values: every field. given: those that were set. prompts: how many there are, if known.

    recipe: dotted key -> value. notes: by field. steps: all optimizer steps, None where the prompts are not counted.
    """

    values: Mapping[str, Any]
    given: frozenset[str]
    prompts: int | None = None
    recipe: dict[str, Any] = field(default_factory=lambda: dict(BASE))
    notes: dict[str, Note] = field(default_factory=dict)
    batches: Batches | None = None
    steps: int | None = None

    def note(self, name: str, kind: NoteKind, text: str, hint: str = "") -> None:
        """A note on a field, in place of the one that its class gives it. An unsupported field stays so."""
        if name not in self.notes or self.notes[name].kind != "unsupported":
            self.notes[name] = Note(name, self.values[name], kind, text, hint)

    def refuse(self, name: str, what: str, hint: str) -> None:
        """Note that the field's value is refused."""
        self.note(name, "unsupported", what, hint)

    def of_kind(self, *kinds: NoteKind) -> list[Note]:
        """The notes of these kinds, on fields that were set; all that are unsupported."""
        return [
            note
            for note in self.notes.values()
            if note.kind in kinds and (note.field in self.given or note.kind in ("unsupported", "changed"))
        ]

    def require_supported(self) -> None:
        """RecipeError for the first field that is refused; the hint counts the others."""
        refused = [note for note in self.notes.values() if note.kind == "unsupported"]
        if not refused:
            return
        first, *others = refused
        named = f" Refused too: {', '.join(note.field for note in others)}." if others else ""
        raise RecipeError(
            first.text,
            where=f"GRPOConfig({first.field}={first.value!r:.60})",
            hint=first.hint + named,
        )

    def sections(self) -> dict[str, Any]:
        """The recipe as nested sections, for `recipe_from`."""
        nested: dict[str, Any] = {}
        for key, value in self.recipe.items():
            *above, last = key.split(".")
            section = nested
            for part in above:
                section = section.setdefault(part, {})
            section[last] = value
        return nested


def table(notes: Iterable[Note]) -> list[str]:
    """The notes as lines: field and value, what became of it, and the words for it.

    Where a line would be longer than the terminal is wide, each note takes several lines.
    """
    width = shutil.get_terminal_size((UNLIMITED, 0)).columns
    rows = [
        (f"{note.field}: {_short(repr(note.value), LONGEST_VALUE)}", note.kind, note.text) for note in notes
    ]
    widths = [max((len(row[place]) for row in rows), default=0) for place in (0, 1)]
    lines = [f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {text}" for name, kind, text in rows]
    if max(map(len, lines), default=0) <= width:
        return lines
    indent = " " * 4
    return [
        line
        for name, kind, text in rows
        for line in (
            f"  {_short(name, width - 2)}",
            *textwrap.wrap(f"{kind}: {text}", width, initial_indent=indent, subsequent_indent=indent),
        )
    ]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
