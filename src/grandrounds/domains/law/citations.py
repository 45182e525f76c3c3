"""The reward `citations`: the share of cited sections, clauses, articles and cases that the case has.

    score = max(0, found - invented) / max(cited, wanted)       wanted = min(at_least, citations in the case)

Where the case has none, a response that cites none has full marks, so that inventing one costs.
"""

from __future__ import annotations

from functools import lru_cache

from grandrounds.domains.law.citing import Citation, citations_in, headings_in, stands_in
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Case, Sample


def make_citations(context: RewardContext, at_least: int) -> Scorer:
    """The note lists invented citations."""
    if type(at_least) is not int or at_least < 1:
        raise ValueError(f"at_least is {at_least!r}, and should be a whole number from 1")

    def score(sample: Sample) -> Score:
        text = _text(sample.case)
        known, headings = _known(text)
        response = sample.response
        cited = citations_in("\n".join(filter(None, (response.reasoning, response.answer))))
        wanted = min(at_least, len(known) + len(headings))
        if not cited:
            return Score(0.0 if wanted else 1.0)
        invented = [one for one in cited if not stands_in(one, known + headings, text)]
        balance = len(cited) - 2 * len(invented)
        return Score(max(0, balance) / max(len(cited), wanted), [str(one) for one in invented] or None)

    return score


def _text(case: Case) -> str:
    asked = (
        [case.question]
        if isinstance(case.question, str)
        else [message.content for message in case.question if message.role != "assistant"]
    )
    return "\n".join((*case.facts, *case.context, *asked, *case.options.values()))


# The completions of a group share their case.
@lru_cache(maxsize=1024)
def _known(text: str) -> tuple[tuple[Citation, ...], tuple[Citation, ...]]:
    return citations_in(text), headings_in(text)
