"""Tables for the terminal, of one policy or of several side by side. They fit 60 columns, and are ASCII in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.evaluation.compare import Comparison
from grandrounds.evaluation.result import Evaluation, Subgroup
from grandrounds.evaluation.statistics import Share
from grandrounds.evaluation.trials import Kind
from grandrounds.report import words
from grandrounds.report.words import cases, gain, p_value, split, verdict
from grandrounds.shares import percent, percents, points

# Like SIMPLE_HEAD: a rule under the header and no other line.
_ASCII = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_LABEL_WIDTH, _POLICY_WIDTH = 16, 14
# Tags with more values than this are not shown: they identify cases and do not group them.
MOST_VALUES = 12

Reading = Callable[[Evaluation], str | None]


def print_evaluation(console: Console, name: str, evaluation: Evaluation) -> None:
    """Print one policy's accuracy, measures of its reasoning, and accuracy by subgroup."""
    _print_metrics(console, {name: evaluation})
    if evaluation.baselines:
        console.print(Text(f"{words.BASELINES}\n"))
    for baseline in evaluation.baselines:
        console.print(Text(f"{words.baseline(baseline.name, baseline.accuracy)}.\n"))
    _print_subgroups(console, {name: evaluation})
    _print_skipped(console, evaluation)
    _print_warning(console, evaluation)


def print_comparison(console: Console, comparison: Comparison, *, notice: str = "") -> None:
    """Print several policies: the same measures side by side, then the paired tests."""
    _print_metrics(console, comparison.evaluations)
    if comparison.pairs:
        console.print(paired_table(comparison, plain=not console.is_terminal), "")
    if comparison.headline is not None:
        samples = comparison.evaluations[comparison.headline.after].samples
        console.print(Text(split(comparison.headline, comparison.count, samples)))
        console.print(Text(verdict(comparison.headline, plain=not console.is_terminal)))
        console.print(Text(f"Difference: {gain(comparison.headline)}.\n"))
    if comparison.baselines:
        console.print(Text(f"{words.BASELINES}\n"))
    for line in words.baselines(comparison, plain=not console.is_terminal):
        console.print(Text(f"{line}\n"))
    _print_subgroups(console, comparison.evaluations)
    _print_warning(console, comparison.evaluations[comparison.names[0]])
    if notice:
        console.print(Text(notice, style="italic"))


def metrics_table(evaluations: Mapping[str, Evaluation], *, plain: bool) -> Table:
    """Rows of measures with a column for each policy. Rows that no policy has are left out."""
    table = _table(evaluations, "", plain)
    for label, reading in _readings(next(iter(evaluations.values()))):
        values = [reading(evaluation) for evaluation in evaluations.values()]
        if any(value is not None for value in values):
            table.add_row(label, *(value or "-" for value in values))
    return table


def paired_table(comparison: Comparison, *, plain: bool) -> Table:
    """One row for each pair: difference, interval, discordant cases, p."""
    table = _bare(plain)
    table.add_column("Same cases", max_width=24, overflow="fold")
    table.add_column("Points\n95 % interval", justify="right", no_wrap=True)
    table.add_column("Better in\n1st : 2nd", justify="right", no_wrap=True)
    table.add_column("McNemar", justify="right", no_wrap=True)
    for pair in comparison.pairs:
        low, high = (points(end) for end in pair.interval)
        table.add_row(
            f"{pair.before}\nvs {pair.after}",
            f"{points(pair.difference)}\n{low} to {high}",
            f"{pair.lost} : {pair.gained}",
            p_value(pair.log10_p, plain=plain),
        )
    return table


def subgroup_table(tag: str, evaluations: Mapping[str, Evaluation], *, plain: bool) -> Table:
    """The accuracy for each value of a tag. Small groups have an asterisk."""
    table = _table(evaluations, tag, plain)
    by_value: dict[str, list[Subgroup]] = {}
    for evaluation in evaluations.values():
        for group in evaluation.subgroups:
            if group.tag == tag:
                by_value.setdefault(group.value, []).append(group)
    for value, groups in by_value.items():
        small = "*" if groups[0].small else ""
        label = Text(f"{value} ({groups[0].count}{small})")
        table.add_row(label, *(f"{percent(group.accuracy)}\n{percents(group.interval)}" for group in groups))
    return table


def shown_tags(evaluation: Evaluation) -> list[str]:
    """Tags that form groups: at least two values, and not too many."""
    counts: dict[str, int] = {}
    for group in evaluation.subgroups:
        counts[group.tag] = counts.get(group.tag, 0) + 1
    return [tag for tag, count in counts.items() if 2 <= count <= MOST_VALUES]


def _readings(evaluation: Evaluation) -> list[tuple[str, Reading]]:
    """(label, function that reads the measure) for each row. k is the first policy's."""
    k = evaluation.samples
    return [
        ("Cases", lambda e: f"{e.count:,}"),
        ("Accuracy", lambda e: percent(e.accuracy.value)),
        ("  95 % interval", lambda e: percents(e.accuracy.interval)),
        (f"Vote of {k}", lambda e: _optional(e.maj_at_k.get(k))),
        (f"Any of {k} right", lambda e: _optional(e.pass_at_k.get(k))),
        ("Answer given", lambda e: percent(e.answered.value)),
        ("Form kept", lambda e: _reasoned(e, e.format)),
        ("Consistent", lambda e: _reasoned(e, e.consistency)),
        ("Evidence score", lambda e: _reasoned(e, e.evidence)),
        ("Valid if right", lambda e: _reasoned(e, e.validity_given_correct)),
        *_behaviours(),
        *_faithfulness(),
        ("Tokens, mean", lambda e: f"{e.lengths.mean:,.0f}"),
        ("  median, 95 %", lambda e: f"{e.lengths.p50:,.0f}, {e.lengths.p95:,.0f}"),
        ("Cut off", lambda e: percent(e.lengths.cut_off)),
    ]


def _behaviours() -> list[tuple[str, Reading]]:
    """A row for each behaviour."""
    return [
        (label, lambda e, name=name: _reasoned(e, e.behaviours.get(name)))  # type: ignore[misc]
        for name, (label, _) in words.BEHAVIOURS.items()
    ]


def _faithfulness() -> list[tuple[str, Reading]]:
    """Rows of answers that moved, where that was asked for."""
    return [
        (label, lambda e, key=key: _moved(e, *key))  # type: ignore[misc]
        for key, (label, _) in words.FAITHFULNESS.items()
    ]


def _moved(evaluation: Evaluation, kind: Kind, share: float | None) -> str | None:
    faithful = evaluation.faithfulness
    return None if faithful is None else _reasoned(evaluation, faithful.moved(kind, share))


def _reasoned(evaluation: Evaluation, share: Share | None) -> str | None:
    """The share as text, for a policy that reasons; it would say nothing about others."""
    return None if share is None or evaluation.reasoned.value == 0 else percent(share.value)


def _optional(value: float | None) -> str | None:
    return None if value is None else percent(value)


def _table(evaluations: Mapping[str, Evaluation], corner: str, plain: bool) -> Table:
    table = _bare(plain)
    table.add_column(corner, min_width=_LABEL_WIDTH, max_width=30, overflow="fold")
    for name in evaluations:
        table.add_column(Text(name), justify="right", min_width=12, overflow="fold")
    return table


def _bare(plain: bool) -> Table:
    box = _ASCII if plain else SIMPLE_HEAD
    return Table(box=box, pad_edge=False, show_edge=False, collapse_padding=True)


def _print_metrics(console: Console, evaluations: Mapping[str, Evaluation]) -> None:
    for part in _fitting(evaluations, console.width):
        console.print(metrics_table(part, plain=not console.is_terminal), "")


def _print_subgroups(console: Console, evaluations: Mapping[str, Evaluation]) -> None:
    tags = shown_tags(next(iter(evaluations.values())))
    for tag in tags:
        for part in _fitting(evaluations, console.width):
            console.print(subgroup_table(tag, part, plain=not console.is_terminal), "")
    if any(
        group.small
        for evaluation in evaluations.values()
        for group in evaluation.subgroups
        if group.tag in tags
    ):
        console.print(Text("* a small group: its accuracy says little\n", style="dim"))


def _print_warning(console: Console, evaluation: Evaluation) -> None:
    if warning := words.trained_on(evaluation):
        console.print(Text(warning, style="yellow"))


def _print_skipped(console: Console, evaluation: Evaluation) -> None:
    for reason, count in evaluation.skipped.items():
        console.print(Text(f"{cases(count)} not asked: {reason}", style="yellow"))


def _fitting(evaluations: Mapping[str, Evaluation], width: int) -> Iterator[Mapping[str, Evaluation]]:
    """The policies, as many at a time as fit side by side."""
    most = max(1, (width - _LABEL_WIDTH) // _POLICY_WIDTH)
    names: Sequence[str] = list(evaluations)
    # Parts of equal size: where three fit, four policies make two tables of two.
    count = -(-len(names) // most)
    size = -(-len(names) // count)
    for start in range(0, len(names), size):
        yield {name: evaluations[name] for name in names[start : start + size]}
