"""The behaviours that are looked for, by name. Each detector gives the spans of the text that show it; none: not found.

They are measures, not rewards: precision and recall on labelled reasonings stand in docs/behaviour.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from grandrounds.behaviour.alternatives import alternatives
from grandrounds.behaviour.evidence import evidence
from grandrounds.behaviour.revision import revision
from grandrounds.behaviour.trace import Span, Trace
from grandrounds.behaviour.verification import self_verification

Detector = Callable[[Trace], tuple[Span, ...]]
BEHAVIOURS: Mapping[str, Detector] = {
    "self_verification": self_verification,
    "alternatives": alternatives,
    "revision": revision,
    "evidence_cited": evidence,
}


def spans_of(trace: Trace) -> dict[str, tuple[Span, ...]]:
    """Behaviour -> the characters of the reasoning that show it, in order; none where it is not found."""
    return {name: detect(trace) for name, detect in BEHAVIOURS.items()}


def rates(traces: Iterable[Trace]) -> dict[str, float]:
    """Behaviour -> the share of the reasonings that show it; empty without a reasoning."""
    listed = list(traces)
    if not listed:
        return {}
    return {
        name: sum(bool(detect(trace)) for trace in listed) / len(listed)
        for name, detect in BEHAVIOURS.items()
    }
