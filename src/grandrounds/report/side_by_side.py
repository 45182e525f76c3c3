"""Prints one case with two policies' responses, beside each other or in a narrow terminal below each other."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import ASCII, ROUNDED
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from grandrounds.evaluation.compare import Comparison, Example
from grandrounds.evaluation.result import Answered, CaseResult
from grandrounds.report.layout import layout_of
from grandrounds.report.words import outcome

# In a terminal narrower than this, responses are shown below each other.
_BESIDE = 90


def print_example(console: Console, comparison: Comparison, example: Example) -> None:
    """Print the example's case, then the responses of the first and the last policy."""
    first, last = comparison.names[0], comparison.names[-1]
    results = comparison.results(example.id)
    chosen = {name: results[name] for name in dict.fromkeys((first, last))}
    drawn = (
        f"{outcome(example.outcome, first, last)}: drawn by lot from {comparison.outcomes[example.outcome]:,}"
    )
    console.print(Text(f"Case {clean(example.id)} ({drawn} of {comparison.count:,} cases)", style="bold"))
    console.print(side_by_side(chosen, width=console.width, plain=not console.is_terminal))


def side_by_side(results: Mapping[str, CaseResult], *, width: int, plain: bool) -> RenderableType:
    """The question, the right answer, and each policy's response to it."""
    case = next(iter(results.values()))
    panels = [_panel(name, result.first, plain) for name, result in results.items()]
    if width < _BESIDE or len(panels) == 1:
        return Group(_question(case), *panels)
    beside = Table.grid(expand=True, padding=(0, 1))
    for _ in panels:
        beside.add_column(ratio=1)
    beside.add_row(*panels)
    return Group(_question(case), beside)


def clean(text: str) -> str:
    """Text without control characters, so that a response cannot control the reader's terminal."""
    return "".join(
        char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _question(case: CaseResult) -> Text:
    lines = [
        clean(case.question),
        *(f"  {letter}. {clean(text)}" for letter, text in case.shown_options.items()),
    ]
    return Text.assemble("\n".join(lines), "\n", ("Right answer: ", "dim"), (clean(case.gold), "bold"))


def _panel(name: str, answered: Answered, plain: bool) -> Panel:
    style = "green" if answered.correct else "red"
    mark = "right" if answered.correct else "wrong"
    return Panel(
        Group(*_body(answered)),
        title=Text.assemble((clean(name), "bold"), f" ({mark})"),
        title_align="left",
        border_style=style,
        box=ASCII if plain else ROUNDED,
    )


def _body(answered: Answered) -> list[Text]:
    layout = layout_of(answered)
    parts = []
    if answered.reasoning:
        parts.append(Text(clean(answered.reasoning), style="dim" if layout.prose else ""))
    if answered.answer:
        parts.append(Text.assemble(("\nAnswer: " if parts else "Answer: "), (clean(answered.answer), "bold")))
    if not parts:
        parts.append(Text(clean(answered.text) or "(nothing)", style="dim"))
    parts.extend(Text(f"! {clean(remark)}", style="yellow") for remark in layout.remarks)
    parts.extend(Text(f"+ {clean(praise)}", style="green") for praise in layout.praise)
    return parts
