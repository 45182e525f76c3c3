"""A plan in the terminal: what is asked, memory by part, what still fits, how long a round takes. 60 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from grandrounds.planning.need import Need
    from grandrounds.planning.plan import Plan

KIB, MIB, GIB = 2**10, 2**20, 2**30


def print_plan(console: Console, plan: Plan) -> None:
    """Everything a plan says."""
    for line in _asked(plan):
        console.print(Text(line))
    console.print("", _parts(plan.need), "")
    console.print(Text(_verdict(plan), style="" if plan.fits is not False else "bold red"))
    for line in (*_offloaded(plan.need), *_limits(plan), _time(plan)):
        console.print(Text(line))


def size(count: int) -> str:
    """12.3 GiB, 480 MiB, 16 KiB."""
    if count >= GIB:
        return f"{count / GIB:,.1f} GiB"
    return f"{count / MIB:,.0f} MiB" if count >= MIB else f"{count / KIB:,.0f} KiB"


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _asked(plan: Plan) -> Iterator[str]:
    work, warmup = plan.work, plan.work.demonstrations
    yield f"{plan.model}, {plan.precision} on {plan.device}"
    if work.prompts:
        yield (
            f"A round: {work.prompts:,} prompts of {work.prompt_tokens:,} tokens ({plan.prompts.origin}), "
            f"{work.group_size} completions of {work.new_tokens:,} each."
        )
    if warmup:
        yield f"A step of the warm-up: {warmup:,} demonstrations of as many tokens."
    yield f"Forwarded at once in the update: {work.pack_tokens:,} tokens."


def _parts(need: Need) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in _rows(need):
        if value or name[0] != " ":
            table.add_row(Text(name, style="dim" if name[0] == " " else ""), size(value))
    return table


def _rows(need: Need) -> Iterator[tuple[str, int]]:
    """Subtotals, each followed by its parts."""
    yield "always", need.resident
    yield "  process", need.process
    yield "  weights", need.weights
    yield "  one layer's, unpacked", need.unpacked
    yield "  adapters", need.adapters
    yield "  reference copy", need.reference
    yield "  optimizer", need.optimizer
    yield "while sampling", need.sampling
    yield "  packed copies of weights", need.copies
    yield "  keys and values", need.store
    if need.prefill > need.choosing:
        yield "  prefill", need.prefill
    else:
        yield "  scores, logits", need.choosing
    yield "while updating", need.update
    yield "  gradients" if need.several_packs else "  gradients, at its end", need.gradients
    yield "  activations", need.activations
    if need.layer > need.head:
        yield "  one layer at work", need.layer
    else:
        yield "  a chunk of logits", need.head
    if need.heap:
        yield "holes in the heap", need.heap
    yield "peak", need.peak


def _verdict(plan: Plan) -> str:
    if plan.memory is None:
        return "How much memory there is, this system does not tell."
    if plan.fits:
        return f"It fits: {size(plan.memory)} are there."
    changes = " and ".join(f"{key}: {value}" for key, value in plan.smallest_change.items())
    hint = f" It would with {changes}." if changes else " Less text does not change that."
    return f"It does not fit: {size(plan.memory)} are there.{hint}"


def _offloaded(need: Need) -> Iterator[str]:
    if need.offloaded:
        yield f"While updating, {size(need.offloaded)} of activations wait in the computer's own memory."


def _limits(plan: Plan) -> Iterator[str]:
    if plan.largest_group_size is not None:
        yield f"Largest grpo.group_size that fits: {plan.largest_group_size:,}."
    if plan.longest_completion is not None:
        yield f"Largest grpo.max_new_tokens that fits: {plan.longest_completion:,}."


def _time(plan: Plan) -> str:
    if plan.time is None:
        return f"Time of a round: not measured, {plan.untimed}."
    return (
        f"Time of a round: about {duration(plan.time.round)} (sampling {duration(plan.time.sampling)}, update "
        f"{duration(plan.time.update)}) if every completion takes all its tokens; rewards not counted."
    )
