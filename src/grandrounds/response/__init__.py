"""The one grammar of a response: how it is asked for, rendered, parsed and checked."""

from grandrounds.response.ask import DEFAULT_SYSTEM, ask, gold_text
from grandrounds.response.check import Knowledge, ReasoningCheck
from grandrounds.response.grammar import Defect, Grammar, Response
from grandrounds.response.outline import Candidate, Claim, Outline, parse_outline, render_outline

__all__ = [
    "DEFAULT_SYSTEM",
    "Candidate",
    "Claim",
    "Defect",
    "Grammar",
    "Knowledge",
    "Outline",
    "ReasoningCheck",
    "Response",
    "ask",
    "gold_text",
    "parse_outline",
    "render_outline",
]
