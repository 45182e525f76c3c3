"""The vocabulary of what was sampled: prompts in, groups of completions out. Tokens stay tokens throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from grandrounds.types import Case

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Prompt:
    """A case as the policy sees it.

    tokens: int64 [P]. text: the rendered chat template.
    prefilled: what the template itself already opened of the response ("<think>\\n"), or "".
    """

    case: Case
    tokens: np.ndarray
    text: str
    prefilled: str = ""


@dataclass(frozen=True)
class Completion:
    """One sampled response.

    tokens: int64 [T], the end token included where one was sampled.
    logprobs: float32 [T], of the distribution each token was actually sampled from (behaviour log-probs).
    text: the tokens decoded, special tokens left out; up to a stop string, which is kept, where one was written.
    finish: "stop" for an end token or a stop string, "length" when cut off.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    text: str
    finish: FinishReason


@dataclass(frozen=True)
class Group:
    """One prompt and its G completions. Groups are told apart by identity, never by prompt text."""

    prompt: Prompt
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are chosen, and what ends a completion beside end tokens and its greatest length.

    temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 switch those filters off.
    stop: strings; a completion ends with the token that makes its decoded text contain one of them.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
