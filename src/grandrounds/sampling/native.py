"""The native sampler: prompts are prefilled once, rows decode together, finished ones leave the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.choose import choose
from grandrounds.sampling.few_rows import product, quick_products
from grandrounds.sampling.noise import Key, uniforms
from grandrounds.sampling.rollout import Completion, Group, Prompt, SamplingSettings
from grandrounds.sampling.store import DecodeLayout, PrefillLayout, Prefixes

# Keys and values of the rows that are decoded together; a constant, since what is free at the moment would change
# how rows are batched, and with that the last bits of a resumed run.
STORE_BYTES = 2 * 2**30
# Prompt tokens, padding included, that pass the model at once. A constant for the same reason; more gain nothing, and
# the widest layer of a 7B model holds 19,000 numbers for each.
PREFILL_TOKENS = 8192
# Logits that exist at once; choosing needs three times as much again. 256 rows of a vocabulary of 131,072: enough that
# reading the head's weights anew for the next rows costs little.
LOGITS_BYTES = 128 * 2**20
# Rows are moved together when a quarter has ended: moving costs about one step, keeping ended rows a share of each.
KEPT_SHARE = 0.75


class Sampler(Protocol):
    """Anything that turns prompts into groups of completions."""

    def sample(self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key) -> list[Group]:
        """n completions of each prompt, in order."""
        ...


@dataclass
class _Rows:
    """What has been decoded of a wave's B completions, T tokens at most."""

    tokens: Tensor  # int64 [B, T]
    logprobs: Tensor  # float32 [B, T]
    lengths: Tensor  # int64 [B]
    stopped: Tensor  # bool [B]


class NativeSampler:
    """Samples from the policy's own weights: no copy, no second precision, evaluation mode."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._ends = torch.tensor(sorted(policy.eos_ids), device=policy.device)

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key) -> list[Group]:
        """n completions of each prompt, in order. Noise depends on (key, case id, attempt, position) alone."""
        groups: list[Group] = []
        for wave in self._waves(prompts, n, settings.max_new_tokens):
            with quick_products(self.policy.base):
                rows = self._decode(wave, n, settings, self._noise(wave, n, settings, key))
            completions = self._completions(rows)
            groups.extend(
                Group(prompt, tuple(completions[i * n : (i + 1) * n])) for i, prompt in enumerate(wave)
            )
        return groups

    def _waves(self, prompts: Sequence[Prompt], n: int, longest: int) -> Iterator[list[Prompt]]:
        """Prompts whose keys and values fit into the store together; at least one."""
        wave: list[Prompt] = []
        used = 0
        element = self.policy.head().weight.element_size()
        per_token = bytes_per_token(self.policy.base.config, element)
        for prompt in prompts:
            size = (len(prompt.tokens) + n * longest) * per_token
            if wave and used + size > STORE_BYTES:
                yield wave
                wave, used = [], 0
            wave.append(prompt)
            used += size
        if wave:
            yield wave

    def _noise(self, wave: list[Prompt], n: int, settings: SamplingSettings, key: Key) -> Tensor:
        """[B, T]."""
        rows = [
            uniforms(key, prompt.case.id, attempt, settings.max_new_tokens)
            for prompt in wave
            for attempt in range(n)
        ]
        return torch.from_numpy(np.stack(rows)).to(self.policy.device)

    def _decode(self, wave: list[Prompt], n: int, settings: SamplingSettings, noise: Tensor) -> _Rows:
        count, longest = noise.shape
        device = noise.device
        rows = _Rows(
            tokens=torch.zeros(count, longest, dtype=torch.int64, device=device),
            logprobs=torch.zeros(count, longest, device=device),
            lengths=torch.full((count,), longest, device=device),
            stopped=torch.zeros(count, dtype=torch.bool, device=device),
        )
        layout, states = self._prefill(wave, n, longest)
        live = torch.arange(count, device=device)
        for step in range(longest):
            tokens, logprobs = self._next(states, noise[live, step], settings)
            rows.tokens[live, step], rows.logprobs[live, step] = tokens, logprobs
            ended = torch.isin(tokens, self._ends) & ~rows.stopped[live]
            rows.lengths[live[ended]] = step + 1
            rows.stopped[live] |= ended
            going = (~rows.stopped[live]).nonzero()[:, 0]
            if len(going) == 0 or step == longest - 1:
                break
            if len(going) < KEPT_SHARE * len(live):
                layout.keep(going)
                live, tokens = live[going], tokens[going]
            states = self.policy.hidden(tokens[None], layout.positions[None], layout)
            layout.step += 1
        return rows

    def _prefill(self, wave: list[Prompt], n: int, longest: int) -> tuple[DecodeLayout, Tensor]:
        """The store behind the prompts, and the state [B, d] that each row's first token follows from."""
        device = self.policy.device
        sizes = [len(prompt.tokens) for prompt in wave]
        prefixes = Prefixes(len(wave), max(sizes))
        last = []  # state of each prompt's last token
        for part in _parts(sizes):
            lengths = torch.tensor(sizes[part], device=device)
            tokens = torch.from_numpy(np.concatenate([prompt.tokens for prompt in wave[part]])).to(device)
            positions = torch.cat([torch.arange(size, device=device) for size in sizes[part]])
            layout = PrefillLayout(lengths, prefixes, part.start)
            hidden = self.policy.hidden(tokens[None], positions[None], layout)
            last.append(hidden.index_select(0, lengths.cumsum(0) - 1))
        lengths = torch.tensor(sizes, device=device)
        return DecodeLayout(prefixes, lengths, n, longest), torch.cat(last).repeat_interleave(n, 0)

    def _next(self, states: Tensor, noise: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
        """A token for each row [B], and its log-prob [B]."""
        rows = rows_at_once(self.policy.head().weight.shape[0])
        chosen = [
            choose(self._logits(part), part_noise, settings)
            for part, part_noise in zip(states.split(rows), noise.split(rows), strict=True)
        ]
        tokens, logprobs = zip(*chosen, strict=True)
        return torch.cat(tokens), torch.cat(logprobs)

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.policy.head()
        logits = product(hidden.to(head.weight.dtype), head.weight, head.bias)
        return logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap

    def _completions(self, rows: _Rows) -> list[Completion]:
        tokens, logprobs = rows.tokens.cpu().numpy(), rows.logprobs.cpu().numpy()
        lengths, stopped = rows.lengths.tolist(), rows.stopped.tolist()
        sequences = [row[:length].copy() for row, length in zip(tokens, lengths, strict=True)]
        texts = self.policy.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return [
            Completion(sequence, row[: len(sequence)].copy(), text, "stop" if end else "length")
            for sequence, row, text, end in zip(sequences, logprobs, texts, stopped, strict=True)
        ]


def bytes_per_token(config: Any, element: int) -> int:
    """Bytes of one token's keys and values in all layers; element: bytes of a number."""
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * element


def rows_at_once(vocabulary: int) -> int:
    """Rows whose logits exist at once."""
    return max(1, LOGITS_BYTES // (4 * vocabulary))


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Prompts of these lengths in runs that hold PREFILL_TOKENS at most once padded alike; at least one prompt."""
    start, longest = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (index + 1 - start) * max(longest, size) > PREFILL_TOKENS:
            yield slice(start, index)
            start, longest = index, 0
        longest = max(longest, size)
    yield slice(start, len(sizes))
