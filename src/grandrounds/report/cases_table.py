"""Prints the report on a source of cases in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.cases.identifiers import hide_identifiers
from grandrounds.cases.inspect import CasesReport
from grandrounds.cases.overlap import Overlap
from grandrounds.report.prose import print_prose
from grandrounds.report.words import shortcut
from grandrounds.shares import percent

_MOST_TAGS = 8
# What a tokenizer decodes to that has only some of a letter's bytes.
PART_OF_A_LETTER = "\N{REPLACEMENT CHARACTER}"
_MOST_LINES, _WIDEST = 12, 400


def print_cases(console: Console, source: str, report: CasesReport) -> None:
    """Counts, lengths, answers, shortcuts, copies, identifiers."""
    kept = sum(report.splits.values())
    console.print(
        Text(f"{source}: {report.count:,} cases read ({report.format}), {kept:,} kept", style="bold"),
        soft_wrap=True,
    )
    _table(console, ("Split", "Cases"), ((name, f"{count:,}") for name, count in report.splits.items()))
    if report.dropped:
        _table(console, ("Left out because", "Cases"), ((why, f"{n:,}") for why, n in report.dropped.items()))
    _table(
        console,
        (f"Length in {report.unit}", "mean", "median", "95 %", "longest"),
        (
            (name, f"{spread.mean:,.1f}", f"{spread.median:,}", f"{spread.p95:,}", f"{spread.longest:,}")
            for name, spread in report.lengths.items()
        ),
    )
    kept = sum(report.kinds.values())
    if report.letters:
        _table(console, ("Right letter", "Cases", "Share"), _shares(report.letters, kept))
    if report.distinct_answers < kept / 2:
        _table(
            console,
            (f"Answer (of {report.distinct_answers:,})", "Cases", "Share"),
            _shares(report.answers, kept),
        )
    for name, values in report.tags.items():
        shown = dict(list(values.items())[:_MOST_TAGS])
        more = len(values) - len(shown)
        title = f"{name} ({more} more)" if more else name
        _table(console, (title, "Cases", "Share"), _shares(shown, kept))
    _table(
        console,
        ("Shortcut", "Accuracy", "Training", "Cases", ""),
        (
            (
                cut.name,
                percent(cut.accuracy),
                "" if cut.train is None else percent(cut.train),
                f"{cut.cases:,}",
                cut.detail,
            )
            for cut in report.shortcuts
        ),
    )
    for cut in report.shortcuts:
        if answers := shortcut(cut.name):
            print_prose(console, answers, label=f"  {cut.name}: ", style="dim", body="dim")
    _print_concerns(console, report)
    _print_copies(console, report)
    _print_identifiers(console, report)
    _print_shown(console, report)


def _print_concerns(console: Console, report: CasesReport) -> None:
    for note in report.notes:
        print_prose(console, note, label="Note: ")
    for concern in report.concerns:
        print_prose(console, concern, label="Check: ", style="bold yellow")
    for line in report.left_out[:_MOST_LINES]:
        print_prose(console, line, label="Left out: ", style="bold yellow")
    if len(report.left_out) > _MOST_LINES:
        console.print(f"Left out: {len(report.left_out) - _MOST_LINES:,} more.")


def _print_shown(console: Console, report: CasesReport) -> None:
    """Cases as the policy sees them, long ones cut."""
    for shown in report.shown:
        console.print(Text(f"\nCase {shown.id}, as the model sees it:", style="bold"))
        lines = shown.prompt.splitlines()
        for line in lines[:_MOST_LINES]:
            console.print(
                Text(f"  {line if len(line) <= _WIDEST else line[: _WIDEST - 1] + '…'}"), soft_wrap=True
            )
        if len(lines) > _MOST_LINES:
            console.print(f"  … {len(lines) - _MOST_LINES:,} more lines")
        gold = shown.gold if len(shown.gold) <= _WIDEST else shown.gold[: _WIDEST - 1] + "…"
        console.print(
            Text.assemble("  Gold answer: ", (gold or "none", "bold"), f" (judged as {shown.judged})"),
            soft_wrap=True,
        )


def print_rendered(console: Console, what: str, rendered: Any) -> None:
    """A prompt's tokens, every other one in another style, borders as bars where there is no colour."""
    console.print(Text(f"\n{what} as {len(rendered.tokens):,} tokens:", style="bold"))
    text = Text()
    for number, token in enumerate(rendered.tokens):
        shown = hide_identifiers(token)
        text.append(shown if console.color_system else f"{shown}|", style="reverse" if number % 2 else "")
    console.print(text, soft_wrap=True)
    if any(PART_OF_A_LETTER in token for token in rendered.tokens):
        print_prose(
            console, f"{PART_OF_A_LETTER} is a part of a letter that takes several tokens.", body="dim"
        )
    for concern in rendered.concerns:
        print_prose(console, concern, label="Check: ", style="bold yellow")


def _print_copies(console: Console, report: CasesReport) -> None:
    console.print(f"Duplicates: {report.duplicates:,} cases copy an earlier one.")
    _pairs(console, report.duplicate_pairs[:3])
    leak = report.leakage
    console.print(
        f"Leakage: of {report.splits['test']:,} test cases, {leak.exact:,} copy a training case; {leak.contained:,} of "
        f"{leak.compared:,} share at least half of their runs of eight words with one."
    )
    _pairs(console, leak.pairs[:5])


def _pairs(console: Console, pairs: Iterable[Overlap]) -> None:
    for pair in pairs:
        shared = f': "{_short(pair.shared)}"' if pair.shared else ""
        console.print(
            Text(f"  {pair.case} ~ {pair.other} ({percent(pair.containment)}){shared}", style="dim"),
            soft_wrap=True,
        )


def _print_identifiers(console: Console, report: CasesReport) -> None:
    if not report.identifiers:
        console.print("Identifiers: no pattern that looks like a patient's was found. That is no proof.")
        return
    console.print("Identifiers: these look like a patient's; check them before you train or share.")
    for name, suspicion in report.identifiers.items():
        examples = ", ".join(f"{text} (case {case})" for case, text in suspicion.examples)
        console.print(
            Text(
                f"  {name}: {suspicion.cases:,} {'case' if suspicion.cases == 1 else 'cases'}, such as {examples}"
            ),
            soft_wrap=True,
        )


def _shares(counts: Mapping[str, int], total: int) -> Iterable[tuple[str, str, str]]:
    return ((_short(name), f"{count:,}", percent(count / total)) for name, count in counts.items())


def _table(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(header):
        table.add_column(
            Text(title), justify="left" if number == 0 or not title else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
