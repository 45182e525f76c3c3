"""The grammar of a response: renders it, parses it, and reads the outline of its reasoning."""

from grandrounds.response.grammar import Defect, Grammar, Response
from grandrounds.response.outline import Candidate, Claim, Outline, parse_outline, render_outline

__all__ = [
    "Candidate",
    "Claim",
    "Defect",
    "Grammar",
    "Outline",
    "Response",
    "parse_outline",
    "render_outline",
]
