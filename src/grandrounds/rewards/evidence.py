"""Evidence: the share of cited findings that the case has. Invented findings reduce it.

The cited findings are an outline's findings and the findings of its claims, each counted once. A finding is in the case
if it is one of the case's facts, or if one clause of a fact, the question or the context has all its words with the
same polarity: "fever" does not match "no fever".

    score = max(0, found - invented) / max(cited, wanted)       wanted = min(at_least, number of facts)

so that citing one safe finding is not enough. Prose has no findings to count. There the facts that it mentions are
counted against `wanted`, and the component does not apply where the case has no facts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from grandrounds.response.outline import Outline
from grandrounds.rewards.polarity import affirm, denial
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.rewards.text import NEGATIONS, normalise, similar
from grandrounds.types import Case, Message, Sample

_CLAUSE = re.compile(r"[;:!?](?=\s|$)|\n|(?<=\w\w)\.(?=\s|$)|\bbut\b|\bhowever\b|\balthough\b|\bexcept\b")
# A list of denied findings ends where a finding is affirmed: "no fever or cough, has a rash".
_AFFIRMING = frozenset({"has", "had", "have", "reports", "presents", "shows", "complains", "with"})
_LITTLE = frozenset({"a", "an", "the", "of", "and", "or", "in", "on", "his", "her", "is", "was", "has"})


@dataclass(frozen=True)
class _Passage:
    """The words of a part of a clause that share a polarity."""

    words: frozenset[str]
    denied: bool


def evidence(context: RewardContext, *, at_least: int = 3) -> Scorer:
    """The share of cited findings that the case has, minus the invented ones, which the note lists."""

    def score(sample: Sample) -> Score:
        case, outline = sample.case, sample.response.outline
        wanted = min(at_least, len(case.facts))
        cited = cited_findings(outline)
        if not cited:
            return _prose_score(sample, wanted)
        invented = [finding for finding in cited if not in_case(finding, case)]
        balance = len(cited) - 2 * len(invented)
        return Score(max(0, balance) / max(len(cited), wanted), invented or None)

    return score


def _prose_score(sample: Sample, wanted: int) -> Score:
    if not sample.case.facts:
        return Score(None)
    reasoning = _passages(sample.response.reasoning or "")
    mentioned = sum(_stated(denial(normalise(fact)), reasoning) for fact in sample.case.facts)
    return Score(min(1.0, mentioned / max(1, wanted)))


def cited_findings(outline: Outline) -> tuple[str, ...]:
    """The normalised findings of an outline, each once, in order. Denied findings read "no …"."""
    listed = list(outline.findings)
    for candidate in outline.differential:
        listed.extend(claim.finding for claim in (*candidate.supports, *candidate.contradicts))
    return tuple(dict.fromkeys(finding for finding in map(_canonical, listed) if finding))


@lru_cache(maxsize=65_536)
def _canonical(finding: str) -> str:
    return denial(normalise(finding))


def in_case(finding: str, case: Case) -> bool:
    """Whether the case states a canonical finding, in its facts or in its text."""
    return _in_case(finding, case.facts, case.question, case.context)


def forget_cases() -> None:
    """Empty the caches that hold whole cases, for a process that may not keep what it was asked."""
    for cached in (_in_case, _known, _case_passages):
        cached.cache_clear()


# Completions of a group cite the same findings repeatedly, so the cache answers most calls.
@lru_cache(maxsize=65_536)
def _in_case(
    finding: str, facts: tuple[str, ...], question: str | tuple[Message, ...], context: tuple[str, ...]
) -> bool:
    known = _known(facts)
    return (
        finding in known
        or any(similar(finding, fact) for fact in known)
        or _stated(finding, _case_passages(facts, question, context))
    )


@lru_cache(maxsize=4096)
def _known(facts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_canonical(fact) for fact in facts)


@lru_cache(maxsize=4096)
def _case_passages(
    facts: tuple[str, ...], question: str | tuple[Message, ...], context: tuple[str, ...]
) -> tuple[_Passage, ...]:
    asked = (question,) if isinstance(question, str) else tuple(message.content for message in question)
    return tuple(passage for text in (*facts, *context, *asked) for passage in _passages(text))


def _passages(text: str) -> tuple[_Passage, ...]:
    passages = []
    for clause in _CLAUSE.split(text):
        begun: list[str] = []
        denied = False
        for word in normalise(clause).split():
            turns = word in NEGATIONS and not denied
            if turns or (denied and word in _AFFIRMING):
                passages.append(_Passage(frozenset(begun), denied))
                begun, denied = [], turns
            begun.append(word)
        passages.append(_Passage(frozenset(begun), denied))
    return tuple(passage for passage in passages if passage.words)


def _stated(finding: str, passages: tuple[_Passage, ...]) -> bool:
    """Whether one passage has all words of the finding, with the same polarity."""
    affirmed = affirm(finding)
    words = set((affirmed or finding).split()) - _LITTLE
    return bool(words) and any(
        passage.denied == (affirmed is not None) and words <= passage.words for passage in passages
    )
