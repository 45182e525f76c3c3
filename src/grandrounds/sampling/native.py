"""The native sampler: prompts are computed once, rows decode together, those that end make room for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.batch import Batch
from grandrounds.sampling.choose import choose
from grandrounds.sampling.noise import Key, uniforms
from grandrounds.sampling.packed import packed_weights
from grandrounds.sampling.rollout import Completion, Group, Prompt, SamplingSettings
from grandrounds.sampling.stop import StopStrings

# Logits that exist at once; choosing needs three times as much again. 256 rows of a vocabulary of 131,072: enough that
# reading the head's weights anew for the next rows costs little.
LOGITS_BYTES = 128 * 2**20


class Sampler(Protocol):
    """Anything that turns prompts into groups of completions."""

    def sample(self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key) -> list[Group]:
        """n completions of each prompt, in order."""
        ...


class _Sampled:
    """What has been decoded of all B completions, T tokens at most."""

    def __init__(self, count: int, longest: int, device: torch.device) -> None:
        self.tokens = torch.zeros(count, longest, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(count, longest, device=device)
        self.lengths = torch.full((count,), longest, device=device)
        self.stopped = torch.zeros(count, dtype=torch.bool, device=device)
        self._going = torch.ones(count, dtype=torch.bool, device=device)

    def put(self, rows: Tensor, places: Tensor, tokens: Tensor, logprobs: Tensor) -> None:
        """One more token of each of these rows [b], at these places [b]."""
        self.tokens[rows, places], self.logprobs[rows, places] = tokens, logprobs

    def end(self, rows: Tensor, places: Tensor, ended: Tensor) -> Tensor:
        """Where they stop with these tokens, bool [b]. Indices of the rows that go on."""
        ended = ended & self._going[rows]
        self.stopped[rows] |= ended
        self.lengths[rows] = torch.where(ended, places + 1, self.lengths[rows])
        self._going[rows] &= ~ended & (places < self.tokens.shape[1] - 1)
        return self._going[rows].nonzero()[:, 0]


class NativeSampler:
    """Samples from the policy's own weights: no copy, no second precision, evaluation mode."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._ends = torch.tensor(sorted(policy.eos_ids), device=policy.device)

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key) -> list[Group]:
        """n completions of each prompt, in order. Noise depends on (key, case id, attempt, position) alone."""
        if not prompts:
            return []
        noise = self._noise(list(prompts), n, settings, key)
        sampled = _Sampled(len(noise), settings.max_new_tokens, noise.device)
        stops = StopStrings(self.policy.tokenizer, settings.stop) if settings.stop else None
        with packed_weights(self.policy.base):
            batch = Batch(self.policy, prompts, n, settings.max_new_tokens)
            while len(batch.rows):
                rows, ages = batch.rows, batch.ages
                tokens, logprobs = self._next(batch.states, noise[rows, ages], settings)
                sampled.put(rows, ages, tokens, logprobs)
                ended = torch.isin(tokens, self._ends)
                if stops is not None:
                    ended |= _at_a_stop(stops, sampled, rows, ages)
                batch.feed(tokens, sampled.end(rows, ages, ended))
        completions = self._completions(sampled, stops)
        return [Group(prompt, tuple(completions[i * n : (i + 1) * n])) for i, prompt in enumerate(prompts)]

    def _noise(self, prompts: list[Prompt], n: int, settings: SamplingSettings, key: Key) -> Tensor:
        """[B, T]."""
        rows = [
            uniforms(key, prompt.case.id, attempt, settings.max_new_tokens)
            for prompt in prompts
            for attempt in range(n)
        ]
        return torch.from_numpy(np.stack(rows)).to(self.policy.device)

    def _next(self, states: Tensor, noise: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
        """A token for each row [B], and its log-prob [B]."""
        rows = rows_at_once(self.policy.head().weight.shape[0])
        chosen = [
            choose(self.policy.logits(part), part_noise, settings)
            for part, part_noise in zip(states.split(rows), noise.split(rows), strict=True)
        ]
        tokens, logprobs = zip(*chosen, strict=True)
        return torch.cat(tokens), torch.cat(logprobs)

    def _completions(self, rows: _Sampled, stops: StopStrings | None) -> list[Completion]:
        tokens, logprobs = rows.tokens.cpu().numpy(), rows.logprobs.cpu().numpy()
        lengths, stopped = rows.lengths.tolist(), rows.stopped.tolist()
        sequences = [row[:length].copy() for row, length in zip(tokens, lengths, strict=True)]
        texts = self.policy.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        if stops is not None:
            texts = [stops.cut(text) for text in texts]
        return [
            Completion(sequence, row[: len(sequence)].copy(), text, "stop" if end else "length")
            for sequence, row, text, end in zip(sequences, logprobs, texts, stopped, strict=True)
        ]


def _at_a_stop(stops: StopStrings, sampled: _Sampled, rows: Tensor, places: Tensor) -> Tensor:
    """Whether each of these rows [b] has just completed a stop string, bool [b]."""
    newest = sampled.tokens[rows, places].tolist()
    return places.new_tensor(
        [
            stops.may_end(token) and stops.found(sampled.tokens[row, : place + 1].tolist())
            for token, row, place in zip(newest, rows.tolist(), places.tolist(), strict=True)
        ],
        dtype=torch.bool,
    )


def rows_at_once(vocabulary: int) -> int:
    """Rows whose logits exist at once."""
    return max(1, LOGITS_BYTES // (4 * vocabulary))
