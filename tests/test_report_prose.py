"""Sentences in a terminal: no word and no command is broken, and a pipe gets whole lines."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from grandrounds.report.prose import print_prose, wrapped

LONG = "The reward gives nearly all the same. Go on with: grandrounds resume 'runs/my long name' --set rounds=200"


def shown(text: str, *, terminal: bool, width: int = 50, label: str = "") -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, no_color=True, color_system=None)
    print_prose(console, text, label=label)
    return out.getvalue()


def test_a_pipe_gets_one_line() -> None:
    assert shown(LONG, terminal=False, label="Note: ") == f"Note: {LONG}\n"


def test_a_terminal_gets_whole_words_and_whole_commands() -> None:
    lines = shown(LONG, terminal=True).splitlines()
    assert lines[-1] == "grandrounds resume 'runs/my long name' --set rounds=200"
    assert all(len(line) <= 50 for line in lines[:-1])


def test_what_follows_an_indented_label_is_indented() -> None:
    first, *others = shown("lower it; " * 20, terminal=True, label="  hint: ").splitlines()
    assert first.startswith("  hint: lower")
    assert all(line.startswith(" " * 8 + "lower") or line.startswith(" " * 8 + "it;") for line in others)


def test_markup_is_shown_as_it_is() -> None:
    assert shown("torch [2.12] [bold]", terminal=True) == "torch [2.12] [bold]\n"


@given(st.text(st.characters(categories=["L", "Nd", "P", "Zs"], exclude_characters="\u00a0"), max_size=300))
def test_no_word_is_lost(text: str) -> None:
    assert wrapped(text, 30).split() == text.split()
