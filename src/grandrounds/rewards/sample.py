"""Parses a completion and judges its answer. This is the only place that does."""

from __future__ import annotations

from grandrounds.response.grammar import Grammar
from grandrounds.rewards.matching import judge
from grandrounds.types import Completion, Group, Prompt, Sample


def read_sample(prompt: Prompt, completion: Completion, grammar: Grammar, max_new_tokens: int) -> Sample:
    """Parse a completion and judge its answer. Never raises for any text."""
    response = grammar.parse(
        completion.text, prefilled=prompt.prefilled, finished=completion.finish == "stop"
    )
    return Sample(prompt, completion, response, judge(response.answer, prompt.case), max_new_tokens)


def read_group(group: Group, grammar: Grammar, max_new_tokens: int) -> tuple[Sample, ...]:
    """`read_sample` for each of a group's completions."""
    return tuple(
        read_sample(group.prompt, completion, grammar, max_new_tokens) for completion in group.completions
    )
