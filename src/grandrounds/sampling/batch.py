"""Continuous batching: rows that wait join, in order, as soon as a quarter of the rows in the batch has ended.

When a row joins depends only on the lengths of prompts and completions and on the size of the KV cache, a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grandrounds.kernels.cuda_graphs import STRIDE, Step, capture_on
from grandrounds.kernels.products import padded_rows
from grandrounds.policy.model import Policy
from grandrounds.sampling.kv_cache import KV_CACHE_BYTES, KVCache, bytes_per_token
from grandrounds.sampling.prefill import Prefill
from grandrounds.types import Prompt

# Ended rows are removed when they are a quarter: removing costs about one step, keeping them a share of each step.
KEPT_SHARE = 0.75


class Batch:
    """The rows that are decoded together: row r is completion r % n of prompt r // n.

    rows: int64 [B], increasing. states: [B, d], the hidden states that give each row's next token.
    """

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], n: int, longest: int) -> None:
        self._policy, self._n, self._longest = policy, n, longest
        self._prefill = Prefill(policy, [prompt.tokens for prompt in prompts])
        element = policy.head().weight.element_size()
        self._room = (
            KV_CACHE_BYTES // bytes_per_token(policy.base.config, element) - self._prefill.shared_tokens
        )
        shared = self._prefill.shared
        capture = capture_on(policy.device) if policy.kernels.cuda_graphs else None
        stride = 1 if capture is None else STRIDE
        self._cache = KVCache(longest, policy.device, shared, self._prefill.shared_tokens, stride)
        # A method here would make a cycle of references, and the KV cache would be freed late.
        cache = self._cache
        self._step = Step(lambda tokens, at: policy.hidden(tokens[None], at[None], cache), capture)
        self._groups: list[int] = []  # indices of the prompts in the cache
        self._total, self._next = len(prompts) * n, 0
        self._last = torch.empty(0)  # the hidden state of the last cached prompt's last token
        self.rows = torch.empty(0, dtype=torch.int64, device=policy.device)
        self.states = torch.empty(0)
        self._join()

    @property
    def generated(self) -> Tensor:
        """[B] tokens of each row's completion so far."""
        return self._cache.generated

    def feed(self, tokens: Tensor, going: Tensor) -> None:
        """Compute the states of these tokens [B]; going: indices, increasing, of the rows that have not ended."""
        # When the last column is written the oldest rows have ended, and the others move to column 0.
        full = self._cache.step == self._longest - 1
        moved = full or len(going) < KEPT_SHARE * len(self.rows)
        if moved:
            going = going if full else self._filled_up(going)
            # Some rows of the last group may still wait.
            kept = self._cache.keep(going, last_group=self._next % self._n != 0)
            self._groups = [self._groups[index] for index in kept]
            self.rows, tokens = self.rows[going], tokens[going]
        if len(self.rows):
            self.states = self._step(tokens, self._cache.positions, self._cache.shape)
            self._cache.advance()
        if moved:
            self._join()

    def _filled_up(self, going: Tensor) -> Tensor:
        """Rows that go on, and as many ended rows as make matrix products a size that needs no padding."""
        further = padded_rows(len(going)) - len(going)
        if not 0 < further < len(self.rows) - len(going):
            return going
        ended = torch.ones_like(self.rows, dtype=torch.bool)
        ended[going] = False
        return torch.cat([going, ended.nonzero()[-further:, 0]]).sort().values

    def _join(self) -> None:
        """Add as many waiting rows as the KV cache has room for; at least one if there are none."""
        first, groups = self._next, list(self._groups)
        while self._next < self._total and self._fits(
            self._next, groups, len(self.rows) + self._next - first
        ):
            if self._next // self._n not in groups[-1:]:
                groups.append(self._next // self._n)
            self._next += 1
        if self._next == first:
            return
        numbers = range(first, self._next)
        further = groups[len(self._groups) :]
        states = {group: self._last for group in self._groups[-1:]}
        prefixes = None
        if further:
            prefixes, computed = self._prefill.compute(further)
            states |= dict(zip(further, computed, strict=True))
        joined = torch.stack([states[row // self._n] for row in numbers])
        self.states = torch.cat([self.states, joined]) if len(self.rows) else joined
        self.rows = torch.cat([self.rows, self.rows.new_tensor(numbers)])
        self._groups, self._last = groups, states[groups[-1]]
        place = {group: index for index, group in enumerate(groups)}
        self._cache.join(
            prefixes,
            self.rows.new_tensor([self._prefill.sizes[group] for group in further]),
            self.rows.new_tensor([place[row // self._n] for row in numbers]),
            last=self._next == self._total,
        )

    def _fits(self, row: int, groups: Sequence[int], rows: int) -> bool:
        """Whether one more row fits beside `rows` rows of these groups."""
        held = {*groups, row // self._n}
        longest = max(self._prefill.sizes[group] for group in held)
        return rows == 0 or len(held) * longest + (rows + 1) * self._longest <= self._room
