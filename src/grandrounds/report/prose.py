"""Prints sentences: in a terminal no word is broken, elsewhere each stays on one line."""

from __future__ import annotations

import re
import textwrap

from rich.console import Console
from rich.text import Text

# A command is copied: it stays whole.
_COMMAND = re.compile(r"`[^`]*`|grandrounds .*$", re.MULTILINE)
_SPACE = "\0"


def print_prose(console: Console, text: str, *, label: str = "", style: str = "bold", body: str = "") -> None:
    """Print a text of one or several lines after its label. style, body: how the label and the text look."""
    whole = f"{label}{text}"
    if console.is_terminal:
        whole = wrapped(whole, console.width, indent=" " * len(label) if label.startswith(" ") else "")
    shown = Text(whole, style=body)
    shown.stylize(style, 0, len(label))
    console.print(shown, soft_wrap=True)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """The text in lines of at most `width`, as far as words and commands, which stay whole, allow it."""
    kept = _COMMAND.sub(lambda command: command.group().replace(" ", _SPACE), text)
    lines = (
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in kept.split("\n")
    )
    return "\n".join(lines).replace(_SPACE, " ")
