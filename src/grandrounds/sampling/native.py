"""The native sampler: each prompt is computed once, completions decode together, and finished ones make room."""

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

    def put(self, members: Tensor, places: Tensor, tokens: Tensor, logprobs: Tensor) -> None:
        """Store one more token for each of these completions [m], at these positions [m]."""
        self.tokens[members, places], self.logprobs[members, places] = tokens, logprobs

    def end(self, members: Tensor, places: Tensor, ended: Tensor) -> tuple[Tensor, list[int]]:
        """Record which completions end with this token (`ended`, bool [m]). Returns the indices of those that continue,
        and the numbers of those that have finished."""
        self.stopped[members] = ended
        self.lengths[members] = torch.where(ended, places + 1, self.lengths[members])
        going = ~ended & (places < self.tokens.shape[1] - 1)
        return going.nonzero()[:, 0], members[~going].tolist()


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
            while len(batch.members):
                members, generated = batch.members, batch.generated
                tokens, logprobs = self._next(batch.states, batch.row, noise[members, generated], settings)
                sampled.put(members, generated, tokens, logprobs)
                ended = torch.isin(tokens, self._ends)
                if stops is not None:
                    ended |= _at_a_stop(stops, sampled, members, generated)
                going, finished = sampled.end(members, generated, ended)
                for place in (number // n for number in finished):
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

    def _next(
        self, states: Tensor, row: Tensor, noise: Tensor, settings: SamplingSettings
    ) -> tuple[Tensor, Tensor]:
        """A token for each completion [m], and its log-prob [m]."""
        at_once = rows_at_once(self.policy.head().weight.shape[0])
        if len(states) <= at_once:
            return choose(self.policy.logits(states), row, noise, settings)
        tokens, logprobs = torch.empty_like(row), torch.empty(len(row), device=row.device)
        for first, part in zip(range(0, len(states), at_once), states.split(at_once), strict=True):
            of_part = ((row >= first) & (row < first + at_once)).nonzero()[:, 0]
            tokens[of_part], logprobs[of_part] = choose(
                self.policy.logits(part), row[of_part] - first, noise[of_part], settings
            )
        return tokens, logprobs

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


def _at_a_stop(stops: StopStrings, sampled: _Sampled, members: Tensor, places: Tensor) -> Tensor:
    """Whether each of these completions [m] has just completed a stop string, bool [m]."""
    newest = sampled.tokens[members, places].tolist()
    return places.new_tensor(
        [
            stops.may_end(token) and stops.found(sampled.tokens[number, : place + 1].tolist())
            for token, number, place in zip(newest, members.tolist(), places.tolist(), strict=True)
        ],
        dtype=torch.bool,
    )


def rows_at_once(vocabulary: int) -> int:
    """The number of rows whose logits exist at once."""
    return max(1, LOGITS_BYTES // (4 * vocabulary))
