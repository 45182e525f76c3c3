"""Completions of given lengths, or given ones, from our own sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import Key, SamplingSettings
from grandrounds.types import Prompt

# A noise value that no draw has (they lie in [0, 1)): "the completion ends with this token".
ENDS_HERE = 2.0


class ScheduledSampler(NativeSampler):
    """The native sampler, whose every end token is moved to where the schedule wants it.

    The mark travels in the noise, which the sampler hands on row by row anyway: rows may leave the batch as they like.
    Tokens in force are given their own log-probs, so that every ratio of the first update is 1, as it must be. Costs
    two comparisons a step, and the head once more for the few rows whose token is replaced.
    """

    def __init__(self, policy: Policy, lengths: Mapping[str, Sequence[int]]) -> None:
        super().__init__(policy)
        self._lengths = {case: torch.from_numpy(np.asarray(ends)) for case, ends in lengths.items()}

    def _noise(self, wave: list[Prompt], n: int, settings: SamplingSettings, key: Key) -> Tensor:
        noise = super()._noise(wave, n, settings, key)
        last = torch.cat([self._lengths[prompt.case.id] for prompt in wave]) - 1
        noise[torch.arange(len(last)), last] = ENDS_HERE
        return noise

    def _next(
        self, states: Tensor, row: Tensor, noise: Tensor, settings: SamplingSettings
    ) -> tuple[Tensor, Tensor]:
        tokens, logprobs = super()._next(states, row, noise, settings)
        end = self.policy.end_id
        wrong = ((tokens == end) != (noise == ENDS_HERE)).nonzero()[:, 0]
        if len(wrong):
            other = torch.where(noise[wrong] == ENDS_HERE, end, self.policy.head().weight.shape[0] - 1)
            logits = self.policy.logits(states[row[wrong]]).float() / settings.temperature
            tokens[wrong] = other
            logprobs[wrong] = torch.log_softmax(logits, -1).gather(1, other[:, None])[:, 0]
        return tokens, logprobs


class GivenSampler(NativeSampler):
    """Leaves no choice: every token is the given one, with the log-prob that the policy gives it.

    The noise carries a token's place in the table.
    """

    def __init__(self, policy: Policy, tokens: np.ndarray) -> None:
        super().__init__(policy)
        self._tokens = torch.from_numpy(tokens)  # [B, T]

    def _noise(self, wave: list[Prompt], n: int, settings: SamplingSettings, key: Key) -> Tensor:
        return torch.arange(self._tokens.numel()).view(self._tokens.shape)

    def _next(
        self, states: Tensor, row: Tensor, noise: Tensor, settings: SamplingSettings
    ) -> tuple[Tensor, Tensor]:
        tokens = self._tokens.view(-1)[noise]
        logits = self.policy.logits(states)[row].float() / settings.temperature
        return tokens, torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0]
