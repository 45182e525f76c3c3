"""Evidence cited: facts of the case that the reasoning names.

Where the case's facts are known, a fact is cited where the reasoning has its words in order. Otherwise each item of the
case's text is a fact, and it is cited by a sentence that has most of its words that carry meaning, or its number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grandrounds.behaviour.items import Item, items
from grandrounds.behaviour.trace import Span, Trace, content_words, merged

# One fact is in nearly every text that keeps to its subject; two are evidence.
AT_LEAST = 2
_NUMBER = re.compile(r"\d[\d.,:/]*(?<=\d)")


def evidence(trace: Trace) -> tuple[Span, ...]:
    """Where facts of the case are named, if at least two different ones are."""
    found = cited_facts(trace) if trace.facts else {}
    if len(found) < AT_LEAST:
        found = {item.text: spans for item, spans in cited_items(trace).items()}
    return merged(span for spans in found.values() for span in spans) if len(found) >= AT_LEAST else ()


def cited_facts(trace: Trace) -> Mapping[str, tuple[Span, ...]]:
    """Each known fact that the reasoning names, and where."""
    found = {
        fact: tuple(match.span() for match in _phrase(fact).finditer(trace.text)) for fact in trace.facts
    }
    return {fact: spans for fact, spans in found.items() if spans}


def cited_items(trace: Trace) -> Mapping[Item, tuple[Span, ...]]:
    """Each item of the case's text that the reasoning names, and the sentences that do."""
    found = {item: tuple(_naming(item, trace)) for item in items(trace.question)}
    return {item: spans for item, spans in found.items() if spans}


def names(item: Item, facts: Mapping[str, object]) -> bool:
    """Whether an item of the case says one of these facts."""
    return any(_phrase(fact).search(item.text) for fact in facts)


def _phrase(fact: str) -> re.Pattern[str]:
    words = r"[\s-]+".join(map(re.escape, fact.split()))
    denied = "" if fact.lower().startswith("no ") else r"(?<!\bno )"
    return re.compile(rf"{denied}\b{words}\b", re.IGNORECASE)


def _naming(item: Item, trace: Trace) -> list[Span]:
    numbers, words = set(_NUMBER.findall(item.text)), item.words
    wanted = max(1, -(-2 * len(words) // 3)) if len(words) < 3 else max(2, -(-len(words) // 2))
    return [
        one.span
        for one in trace.sentences
        if numbers & set(_NUMBER.findall(one.text)) or len(words & content_words(one.text)) >= wanted
    ]
