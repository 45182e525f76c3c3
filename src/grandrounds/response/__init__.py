"""The one grammar of a response: how it is rendered, parsed, and what its reasoning says."""

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
