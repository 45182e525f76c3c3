"""The interface of every sampler, ours or a user's, and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from grandrounds.errors import RunError
from grandrounds.types import Group, Prompt, ScoredGroup

# Determines a round's randomness: (seed, round, draws) in training, (seed, "evaluation") in an evaluation.
Key = tuple[int | str, ...]


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are chosen, and what ends a completion besides end tokens and the maximum length.

    temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 switch those filters off.
    stop: strings. A completion ends with the token after which its decoded text contains one of them.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()


class Sampler(Protocol):
    """Turns prompts into groups of completions."""

    def publish(self, weights: Any, version: int) -> None:
        """From now on sample from these weights, the policy's after `version` rounds.

        weights: the transformers model being trained. A sampler that uses this model itself has nothing to copy.
        """
        ...

    def sample(
        self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key
    ) -> Iterator[Group]:
        """n completions of each prompt. Each group is returned as soon as it is complete, in any order.

        The same weights and key give the same completions. `Completion.logprobs` belong to the distribution after
        temperature and filters, in the precision that the policy computes in.
        """
        ...


AnyGroup = TypeVar("AnyGroup", Group, ScoredGroup)


def in_order(prompts: Sequence[Prompt], groups: Iterable[AnyGroup]) -> list[AnyGroup]:
    """The groups in the order of their prompts, matched by identity. RunError where the sampler lost one."""
    by_prompt = {id(group.prompt): group for group in groups}
    if by_prompt.keys() != {id(prompt) for prompt in prompts}:
        raise RunError(
            f"the sampler returned groups for {len(by_prompt)} of {len(prompts)} prompts",
            hint="Yield one Group for each prompt, with the Prompt object that was given.",
        )
    return [by_prompt[id(prompt)] for prompt in prompts]
