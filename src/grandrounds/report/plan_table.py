"""Prints a plan in the terminal: the settings, memory by part, what else fits, and how long a round takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from grandrounds.machine import size

# Each total, and the parts that it is the sum of.
SUMS = {
    "resident": ("always", "process weights unpacked adapters reference optimizer"),
    "sampling": ("while sampling", "copies kv_cache prefill choosing"),
    "update": ("while updating", "gradients activations head"),
    "peak": ("peak", "heap"),
}
# Names to print for parts whose own names say too little.
NAMES = {
    "unpacked": "one layer's, unpacked",
    "reference": "reference copy",
    "copies": "packed copies of weights",
    "kv_cache": "KV cache",
    "prefill": "prefill, or",
    "choosing": "logits to choose from",
    "head": "a chunk of logits",
    "heap": "heap fragmentation, of these",
}


def print_plan(console: Console, plan: dict[str, Any]) -> None:
    """Print everything in a plan's JSON."""
    table = Table.grid(padding=(0, 3))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for total, (title, parts) in SUMS.items():
        table.add_row(title, size(plan[total]))
        for part in filter(plan["parts"].get, parts.split()):
            table.add_row(Text(f"  {NAMES.get(part, part)}", style="dim"), size(plan["parts"][part]))
    for line in (*_asked(plan["work"], plan), "", table, "", *_answers(plan)):
        console.print(line, markup=False)


def _asked(work: dict[str, Any], plan: dict[str, Any]) -> Iterator[str]:
    yield f"{plan['model']}, {plan['precision']} on {plan['device']}"
    if work["prompts"]:
        yield (
            f"A round: {work['prompts']:,} prompts of {work['prompt_tokens']:,} tokens "
            f"({plan['prompts']['origin']}), {work['group_size']} completions of {work['max_new_tokens']:,} each."
        )
    if work["demonstrations"]:
        yield f"A step of the warm-up: {work['demonstrations']:,} demonstrations of as many tokens."
    yield f"Forwarded at once in the update: {work['pack_tokens']:,} tokens."


def _answers(plan: dict[str, Any]) -> Iterator[str | Text]:
    if plan["memory"] is None:
        yield "How much memory there is, this system does not tell."
    elif plan["fits"]:
        yield f"It fits: {size(plan['memory'])} are there."
    else:
        changes = " and ".join(f"{key}: {value}" for key, value in plan["smallest_change"].items())
        hint = f"It would with {changes}." if changes else "Less text does not change that."
        yield Text(f"It does not fit: {size(plan['memory'])} are there. {hint}", style="bold red")
    if offloaded := plan["parts"]["offloaded"]:
        yield f"While updating, {size(offloaded)} of activations wait in the computer's own memory."
    for key, value in (("group_size", "largest_group_size"), ("max_new_tokens", "longest_completion")):
        if plan[value] is not None:
            yield f"Largest grpo.{key} that fits: {plan[value]:,}."
    if plan["seconds"] is None:
        yield f"Time of a round: not measured, {plan['untimed']}."
        return
    sampling, update, whole = (_duration(plan["seconds"][name]) for name in ("sampling", "update", "round"))
    yield (
        f"Time of a round: about {whole} (sampling {sampling}, update {update}) if every completion takes all "
        "its tokens; rewards not counted."
    )


def _duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
