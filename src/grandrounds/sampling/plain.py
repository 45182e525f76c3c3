"""Decoding by transformers alone: its own attention and KV cache, a copy of the prompt for each row.

`policy.kernels.shared_prefix` replaces this, and must equal it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy.model import Policy
from grandrounds.sampling.kv_cache import KV_CACHE_BYTES, bytes_per_token
from grandrounds.types import Prompt


class PlainBatch:
    """Members, states and tokens generated as in `Batch`, each completion in a row of its own. As many as fit decode
    together; when all have ended, the next begin."""

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], n: int, longest: int) -> None:
        self._policy, self._n = policy, n
        self._prompts = [prompt.tokens for prompt in prompts]
        token = bytes_per_token(policy.base.config, policy.head().weight.element_size())
        row = max(len(tokens) for tokens in self._prompts) + longest
        self._at_once = max(1, KV_CACHE_BYTES // (token * row))
        self._begin(0)

    def _begin(self, first: int) -> None:
        """Compute the prompts, left padded, of the rows from number `first` on."""
        from transformers import DynamicCache

        device, last = self._policy.device, len(self._prompts) * self._n
        self._next = min(first + self._at_once, last)
        self.members = torch.arange(first, self._next, device=device)
        self.generated = torch.zeros_like(self.members)
        if not len(self.members):
            return
        prompts = [self._prompts[row // self._n] for row in range(first, self._next)]
        longest = max(map(len, prompts))
        tokens, mask = np.zeros((2, len(prompts), longest), np.int64)
        for index, prompt in enumerate(prompts):
            tokens[index, longest - len(prompt) :], mask[index, longest - len(prompt) :] = prompt, 1
        self._mask = torch.from_numpy(mask).to(device)
        self._cache = DynamicCache(config=self._policy.base.config.get_text_config())
        self.states = self._computed(torch.from_numpy(tokens).to(device))

    @property
    def row(self) -> Tensor:
        """[m], the row of each completion."""
        return torch.arange(len(self.members), device=self.members.device)

    def feed(self, tokens: Tensor, going: Tensor) -> None:
        """Compute the states of these tokens [m]; going: indices, increasing, of completions that have not ended."""
        if not len(going):
            self._begin(self._next)
            return
        if len(going) < len(self.members):
            self.members, self.generated, self._mask = (
                self.members[going],
                self.generated[going],
                self._mask[going],
            )
            self._cache.batch_select_indices(going)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], 1)
        self.states = self._computed(tokens[going, None])
        self.generated = self.generated + 1

    def _computed(self, tokens: Tensor) -> Tensor:
        """States [B, d] of the last of tokens [B, L]."""
        return self._policy.padded_hidden(tokens, self._mask, self._cache)[:, -1]
