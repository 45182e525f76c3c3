"""Results in words: this file alone decides how a comparison, a baseline and a p-value are written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from grandrounds.cases.shortcuts import EXPLAINED
from grandrounds.domain import every
from grandrounds.evaluation.compare import Comparison, Pair
from grandrounds.evaluation.result import Evaluation
from grandrounds.evaluation.statistics import Share
from grandrounds.evaluation.trials import Kind
from grandrounds.shares import percent, percents, points

# A difference counts as significant if its p is below this.
SIGNIFICANT = 0.05

DEFECTS = {
    "text_outside_tags": "text outside the tags",
    "reasoning_missing": "shows no reasoning",
    "reasoning_empty": "empty reasoning",
    "reasoning_repeated": "more than one reasoning",
    "answer_missing": "no answer",
    "answer_empty": "empty answer",
    "answer_repeated": "more than one answer",
    "wrong_order": "answer before reasoning",
    "tag_nested": "tags inside each other",
    "tag_unclosed": "a tag is not closed",
    "tag_unopened": "a tag is closed but not opened",
    "cut_off": "cut off at the longest allowed length",
}
# Behaviour -> its label, and what it says.
BEHAVIOURS = {
    "self_verification": (
        "Checks itself",
        "compares its result with the case, or works it out again; rough in prose",
    ),
    "alternatives": (
        "Weighs others",
        "says what speaks for or against two candidates or more; poor in prose",
    ),
    "revision": ("Revises", "takes back or reopens what it said; rough in prose"),
    "evidence_cited": ("Cites facts", "names two facts of the case or more"),
}
# Trials of faithfulness (kind, share of the reasoning) -> label and hint of the share of answers that moved.
FAITHFULNESS: dict[tuple[Kind, float | None], tuple[str, str]] = {
    ("decisive", None): (
        "Moved: decisive",
        "answers that change without the cited finding with most points for them",
    ),
    ("removed", None): ("Moved: fact out", "answers that change without a cited finding"),
    ("uncited", None): ("  uncited out", "answers that change without a finding that is not cited"),
    ("corrupted", None): (
        "  fact replaced",
        "answers that change with another finding in a cited one's place",
    ),
    ("early", 0.0): ("  no reasoning", "answers that differ with an empty reasoning"),
    ("early", 0.5): ("  half of it", "answers that differ after half of the reasoning"),
    ("early", 1.0): ("  all (control)", "answers that differ after the same reasoning, written down again"),
}
OUTCOMES = {
    "gained": "only {after} right",
    "lost": "only {before} right",
    "both_right": "both right",
    "both_wrong": "both wrong",
}
# What stands before the shortcuts' accuracies.
BASELINES = "What can be had without reasoning, on the same cases:"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def p_value(log10_p: float, *, plain: bool = False) -> str:
    """A p-value as p = 0.031, as p = 3.4 × 10⁻²⁷, or in plain text as p = 3.4e-27."""
    if log10_p > -3:
        return f"p = {10**log10_p:.2g}" if log10_p < -1 else f"p = {10**log10_p:.2f}"
    exponent = math.floor(log10_p)
    mantissa = f"{10 ** (log10_p - exponent):.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    if plain:
        return f"p = {mantissa}e{exponent:d}"
    return f"p = {mantissa} × 10{str(exponent).translate(_SUPERSCRIPT)}"


def chance(log10_p: float) -> str:
    """How often chance alone produces a result with this p-value."""
    if log10_p < -6:
        return "less than once in a million times"
    times = 10**-log10_p
    if times < 1.5:
        return "nearly every time"
    size = 10 ** max(0, math.floor(math.log10(times)) - (0 if times >= 100 else 1))
    return f"about once in {round(times / size) * size:,} times"


def outcome(name: str, before: str, after: str) -> str:
    """The meaning of an outcome such as "gained", for two policies."""
    return OUTCOMES[name].format(before=before, after=after)


def split(pair: Pair, count: int, samples: int) -> str:
    """A sentence about the discordant cases."""
    alone = "was right where the other was wrong" if samples == 1 else "was right more often than the other"
    return (
        f"Both answered the same {count:,} cases. {pair.after} {alone} in {cases(pair.gained)}, "
        f"{pair.before} in {pair.lost:,}."
    )


def verdict(pair: Pair, *, plain: bool = False) -> str:
    """The result of the paired test, in words that need no statistics, followed by its numbers."""
    p = f"exact McNemar test, two-sided {p_value(pair.log10_p, plain=plain)}"
    if pair.gained + pair.lost == 0:
        return "The two never differed, so these cases cannot tell which one is better."
    often = f"If neither were better, a split at least this uneven would happen {chance(pair.log10_p)}"
    if pair.log10_p >= math.log10(SIGNIFICANT):
        return f"{often} ({p}). So these cases do not show that either is better than the other."
    better, worse = (pair.after, pair.before) if pair.gained > pair.lost else (pair.before, pair.after)
    return f"{often} ({p}). So {better} answers cases like these better than {worse}."


def gain(pair: Pair) -> str:
    """A gain as "+25.2 percentage points (95 % interval +21.3 to +29.0)"."""
    low, high = (points(end) for end in pair.interval)
    return f"{points(pair.difference)} percentage points (95 % interval {low} to {high})"


def shortcut(name: str) -> str:
    """What a baseline or shortcut answers, in a few words; "" where its name says it."""
    return str({**EXPLAINED, **every("shortcuts")}.get(name, ""))


def baseline(name: str, accuracy: Share) -> str:
    """A baseline with what it answers, and its accuracy, as text."""
    told = f"{name} ({answers})" if (answers := shortcut(name)) else name
    return f"{told}: {percent(accuracy.value)} right (95 % interval {percents(accuracy.interval)})"


def baselines(comparison: Comparison, *, plain: bool = False) -> list[str]:
    """A sentence for each baseline: its accuracy, and the last policy compared with it."""
    last = comparison.evaluations[comparison.names[-1]]
    return [
        f"{baseline(own.name, own.accuracy)}. {pair.after} against {pair.before}: {gain(pair)}, "
        f"exact McNemar test, two-sided {p_value(pair.log10_p, plain=plain)}."
        for own, pair in zip(last.baselines, comparison.baselines, strict=True)
    ]


def trained_on(evaluation: Evaluation) -> str:
    """A warning that the run was trained on some cases' publications, or ""."""
    if not evaluation.trained_on:
        return ""
    return (
        f"{cases(evaluation.trained_on)} of {evaluation.count:,} are of publications that the run was trained on: "
        "on these the accuracy is not that on new patients."
    )


def listed(names: Sequence[str]) -> str:
    """A list as "a, b and c"."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def tight(text: str) -> str:
    """The text with non-breaking spaces before a percent sign and within a p-value."""
    return re.sub(r" (?=%)|(?<=\bp) (?==)|(?<==) (?=\d)| (?=×)|(?<=×) ", "\N{NO-BREAK SPACE}", text)


def cases(count: int) -> str:
    """A number of cases as "1 case" or "2 cases"."""
    return f"{count:,} case{'' if count == 1 else 's'}"
