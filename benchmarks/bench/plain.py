"""Sampling by transformers' `generate`, and log-probabilities by a forward pass on a padded batch: nothing of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.sampler import Key, SamplingSettings
from grandrounds.types import Completion, Group, Prompt

PAD = 0  # any token will do: it is masked


class PlainSampler:
    """transformers' `generate`, every completion with a prompt of its own; torch's noise, seeded by the key."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def publish(self, weights: Any, version: int) -> None:
        """The weights are the policy's."""

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key
    ) -> Iterator[Group]:
        """As `Sampler.sample`."""
        repeated = [prompt for prompt in prompts for _ in range(n)]
        tokens, mask = padded([prompt.tokens for prompt in repeated], left=True)
        with torch.random.fork_rng(devices=[]), self.policy.own_attention():
            torch.manual_seed(int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest()))
            rows = self.policy.base.generate(
                tokens,
                attention_mask=mask,
                do_sample=True,
                temperature=settings.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=sorted(self.policy.eos_ids),
                pad_token_id=PAD,
            )[:, tokens.shape[1] :].numpy()
        made = [self._completion(prompt, row, settings) for prompt, row in zip(repeated, rows, strict=True)]
        for place, prompt in enumerate(prompts):
            yield Group(prompt, tuple(made[place * n : (place + 1) * n]))

    def _completion(self, prompt: Prompt, row: np.ndarray, settings: SamplingSettings) -> Completion:
        """A row cut behind its first end token."""
        ends = np.flatnonzero(np.isin(row, sorted(self.policy.eos_ids)))
        tokens = row[: ends[0] + 1] if len(ends) else row
        logprobs = plain_logprobs(self.policy, [(prompt.tokens, tokens)], settings.temperature)
        text = self.policy.tokenizer.decode(tokens, skip_special_tokens=True)
        return Completion(tokens.copy(), logprobs[0].float().numpy(), text, "stop" if len(ends) else "length")


def plain_logprobs(
    policy: Policy, pairs: Sequence[tuple[np.ndarray, np.ndarray]], temperature: float = 1.0
) -> list[Tensor]:
    """Log-probs [T] of each completion behind its prompt, by the model's own forward pass on a padded batch."""
    tokens, mask = padded([np.concatenate(pair) for pair in pairs], left=False)
    with policy.own_attention():
        logits = policy.base(input_ids=tokens, attention_mask=mask, use_cache=False).logits  # [B, L, V]
    logs = torch.log_softmax(logits / temperature, -1)
    chosen = logs[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]  # [B, L - 1]
    return [
        row[len(prompt) - 1 : len(prompt) - 1 + len(completion)]
        for row, (prompt, completion) in zip(chosen, pairs, strict=True)
    ]


def padded(rows: Sequence[np.ndarray], *, left: bool) -> tuple[Tensor, Tensor]:
    """Tokens [B, L] and what of them is real [B, L]."""
    width = max(len(row) for row in rows)
    tokens = np.full((len(rows), width), PAD, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[index, place], mask[index, place] = row, 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)
