"""The native sampler: each prompt is computed once, rows decode together, and finished rows make room for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.batch import Batch
from grandrounds.sampling.choose import choose
from grandrounds.sampling.noise import uniforms
from grandrounds.sampling.plain import PlainBatch
from grandrounds.sampling.sampler import Key, SamplingSettings
from grandrounds.sampling.stop import StopStrings
from grandrounds.types import Completion, Group, Prompt

# Size of the logits that exist at once; choosing needs three times as much in addition. It holds 256 rows for a
# vocabulary of 131,072, enough that reading the head's weights again for the next rows costs little.
LOGITS_BYTES = 128 * 2**20


class _Sampled:
    """The tokens decoded so far of all B completions, at most T each."""

    def __init__(self, count: int, longest: int, device: torch.device) -> None:
        self.tokens = torch.zeros(count, longest, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(count, longest, device=device)
        self.lengths = torch.full((count,), longest, device=device)
        self.stopped = torch.zeros(count, dtype=torch.bool, device=device)
        self._going = torch.ones(count, dtype=torch.bool, device=device)

    def put(self, rows: Tensor, places: Tensor, tokens: Tensor, logprobs: Tensor) -> None:
        """Store one more token for each of these rows [b], at these positions [b] of their completions."""
        self.tokens[rows, places], self.logprobs[rows, places] = tokens, logprobs

    def end(self, rows: Tensor, places: Tensor, ended: Tensor) -> tuple[Tensor, list[int]]:
        """Record which rows end with this token (`ended`, bool [b]). Returns the indices of the rows that continue, and
        the rows that have just finished."""
        going = self._going[rows]
        ended = ended & self._going[rows]
        self.stopped[rows] |= ended
        self.lengths[rows] = torch.where(ended, places + 1, self.lengths[rows])
        self._going[rows] &= ~ended & (places < self.tokens.shape[1] - 1)
        go_on = self._going[rows]
        return go_on.nonzero()[:, 0], rows[going & ~go_on].tolist()


class NativeSampler:
    """Samples from the policy's own weights, in evaluation mode: there is no copy and no second precision."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.version = 0
        self._ends = torch.tensor(sorted(policy.eos_ids), device=policy.device)

    def publish(self, weights: Any, version: int) -> None:
        """Only stores the version: the sampler reads the policy's own weights."""
        self.version = version

    @torch.inference_mode()
    def sample(
        self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key
    ) -> Iterator[Group]:
        """n completions of each prompt, see `Sampler`. Noise depends only on (key, case id, completion, position).

        The weights must not change before the last group is returned.
        """
        if not prompts:
            return
        noise = self._noise(list(prompts), n, settings, key)
        sampled = _Sampled(len(noise), settings.max_new_tokens, noise.device)
        stops = StopStrings(self.policy.tokenizer, settings.stop) if settings.stop else None
        missing = [n] * len(prompts)
        with self.policy.packed():
            decode = Batch if self.policy.kernels.shared_prefix else PlainBatch
            batch = decode(self.policy, prompts, n, settings.max_new_tokens)
            while len(batch.rows):
                rows, generated = batch.rows, batch.generated
                tokens, logprobs = self._next(batch.states, noise[rows, generated], settings)
                sampled.put(rows, generated, tokens, logprobs)
                ended = torch.isin(tokens, self._ends)
                if stops is not None:
                    ended |= _at_a_stop(stops, sampled, rows, generated)
                going, ended_rows = sampled.end(rows, generated, ended)
                for place in (row // n for row in ended_rows):
                    missing[place] -= 1
                    if not missing[place]:
                        whole = slice(place * n, place * n + n)
                        yield Group(prompts[place], self._completions(sampled, whole, stops))
                batch.feed(tokens, going)

    def _noise(self, prompts: list[Prompt], n: int, settings: SamplingSettings, key: Key) -> Tensor:
        """Noise [B, T]."""
        rows = [
            uniforms(key, prompt.case.id, place, settings.max_new_tokens)
            for prompt in prompts
            for place in range(n)
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

    def _completions(
        self, sampled: _Sampled, rows: slice, stops: StopStrings | None
    ) -> tuple[Completion, ...]:
        tokens, logprobs = sampled.tokens[rows].cpu().numpy(), sampled.logprobs[rows].cpu().numpy()
        lengths, stopped = sampled.lengths[rows].tolist(), sampled.stopped[rows].tolist()
        sequences = [row[:length].copy() for row, length in zip(tokens, lengths, strict=True)]
        texts = self.policy.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        if stops is not None:
            texts = [stops.cut(text) for text in texts]
        versions = (self.version, self.version)
        return tuple(
            Completion(sequence, row[: len(sequence)].copy(), text, "stop" if end else "length", versions)
            for sequence, row, text, end in zip(sequences, logprobs, texts, stopped, strict=True)
        )


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
    """The number of rows whose logits exist at once."""
    return max(1, LOGITS_BYTES // (4 * vocabulary))
