"""Continuous batching: completions that wait join, in order, as soon as a quarter of the rows in the batch has ended.

On a CPU, completions of a group that agree so far are one row. Where they part, the row is forked. On a GPU each
completion has its own row: a captured step needs a batch that stays as it is.

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
# Devices on which completions that agree are one row.
MERGE_ON: tuple[str, ...] = ("cpu",)


class Batch:
    """The completions that are decoded together, and the rows that they are decoded in.

    members: int64 [m], their numbers; number c is completion c % n of prompt c // n. row: int64 [m], the row of each.
    states: [B, d], the hidden states that give each row's next token. A row without members has ended.
    """

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], n: int, longest: int) -> None:
        self._policy, self._n, self._longest = policy, n, longest
        self._merge = policy.device.type in MERGE_ON
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
        self._rows = 0  # B
        self.members = torch.empty(0, dtype=torch.int64, device=policy.device)
        self.row = torch.empty_like(self.members)
        self.states = torch.empty(0)
        self._join()

    @property
    def generated(self) -> Tensor:
        """[m] tokens of each completion so far."""
        return self._cache.generated[self.row]

    def feed(self, tokens: Tensor, going: Tensor) -> None:
        """Compute the states of these tokens [m]; going: indices, increasing, of the completions that have not
        ended."""
        tokens, self.members, row = tokens[going], self.members[going], self.row[going]
        row = self._parted(row, tokens) if self._merge else row
        alive = torch.unique(row)
        # When the last column is written the oldest rows have ended, and the others move to column 0.
        full = self._cache.step == self._longest - 1
        moved = full or len(alive) < KEPT_SHARE * self._rows
        if moved:
            alive = alive if full else self._filled_up(alive)
            # Some completions of the last group may still wait.
            kept = self._cache.keep(alive, last_group=self._next % self._n != 0, forks=self._may_fork(row))
            self._groups = [self._groups[index] for index in kept]
            row, self._rows = torch.searchsorted(alive, row), len(alive)
        self.row = row
        if len(row):
            fed = tokens.new_zeros(self._rows)  # an ended row decodes token 0
            fed[row] = tokens
            self.states = self._step(fed, self._cache.positions, self._cache.shape)
            self._cache.advance()
        if moved:
            self._join()

    def _parted(self, row: Tensor, tokens: Tensor) -> Tensor:
        """The row of each completion [m], one for each different token after the same row. Ended rows come first."""
        branches, branch = torch.unique((row << 32) + tokens, return_inverse=True)
        rows = branches >> 32
        forked = torch.zeros_like(rows, dtype=torch.bool)
        forked[1:] = rows[1:] == rows[:-1]
        count = int(forked.sum())
        if not count:
            return row
        ended = torch.ones(self._rows, dtype=torch.bool, device=row.device)
        ended[rows] = False
        places = ended.nonzero()[:count, 0]
        further = torch.arange(self._rows, self._rows + count - len(places), device=row.device)
        self._rows += len(further)
        places = torch.cat([places, further])
        sources = rows[forked]
        rows[forked] = places
        self._cache.fork(sources, places, forks=self._may_fork(rows[branch]))
        return rows[branch]

    @staticmethod
    def _may_fork(row: Tensor) -> bool:
        """Whether a row has several completions."""
        return len(torch.unique(row)) < len(row)

    def _filled_up(self, alive: Tensor) -> Tensor:
        """Rows that go on, and as many ended rows as make matrix products a size that needs no padding."""
        further = padded_rows(len(alive)) - len(alive)
        if not 0 < further < self._rows - len(alive):
            return alive
        ended = torch.ones(self._rows, dtype=torch.bool, device=alive.device)
        ended[alive] = False
        return torch.cat([alive, ended.nonzero()[-further:, 0]]).sort().values

    def _join(self) -> None:
        """Add as many waiting completions as the KV cache has room for; at least one if there are none."""
        first, groups = self._next, list(self._groups)
        # Each completion may come to need a row of its own.
        needed = max(self._rows, len(self.members))
        while self._next < self._total and self._fits(self._next, groups, needed + self._next - first):
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
        of = [number // self._n for number in numbers]
        joining = list(dict.fromkeys(of)) if self._merge else of  # the group of each new row
        index = {group: place for place, group in enumerate(joining)}
        rows = [index[group] for group in of] if self._merge else range(len(numbers))
        joined = torch.stack([states[group] for group in joining])
        self.states = torch.cat([self.states, joined]) if self._rows else joined
        self.members = torch.cat([self.members, self.members.new_tensor(numbers)])
        self.row = torch.cat([self.row, self.row.new_tensor(rows) + self._rows])
        self._groups, self._last = groups, states[groups[-1]]
        self._rows += len(joining)
        place = {group: index for index, group in enumerate(groups)}
        self._cache.join(
            prefixes,
            self.row.new_tensor([self._prefill.sizes[group] for group in further]),
            self.row.new_tensor([place[group] for group in joining]),
            last=self._next == self._total,
            room=needed + len(numbers),
            forks=self._may_fork(self.row),
        )

    def _fits(self, number: int, groups: Sequence[int], rows: int) -> bool:
        """Whether one more completion fits beside `rows` rows of these groups."""
        held = {*groups, number // self._n}
        longest = max(self._prefill.sizes[group] for group in held)
        return rows == 0 or len(held) * longest + (rows + 1) * self._longest <= self._room
