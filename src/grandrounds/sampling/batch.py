"""The rows that are decoded together. Those that wait join, in order, as soon as a quarter of the others has ended.

Who joins when is a function of lengths alone: of prompts, of completions, and of the store's size, a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from grandrounds.kernels.cuda_graphs import STRIDE, Step, capture_on
from grandrounds.kernels.products import padded_rows
from grandrounds.policy.model import Policy
from grandrounds.sampling.prefill import Prefill
from grandrounds.sampling.store import DecodeLayout
from grandrounds.types import Prompt

# Keys and values of the rows that are decoded together; a constant, since what is free at the moment would change
# how rows are batched, and with that the last bits of a resumed run.
STORE_BYTES = 2 * 2**30
# Rows are moved together when a quarter has ended: moving costs about one step, keeping ended rows a share of each.
KEPT_SHARE = 0.75


class Batch:
    """Rows at work, by number: row r is attempt r % n at prompt r // n.

    rows: int64 [B], in increasing order. states: [B, d], what each row's next token follows from.
    """

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], n: int, longest: int) -> None:
        self._policy, self._n, self._longest = policy, n, longest
        self._prefill = Prefill(policy, [prompt.tokens for prompt in prompts])
        element = policy.head().weight.element_size()
        self._room = STORE_BYTES // bytes_per_token(policy.base.config, element) - self._prefill.shared_tokens
        shared = self._prefill.shared
        capture = capture_on(policy.device) if policy.kernels.cuda_graphs else None
        stride = 1 if capture is None else STRIDE
        self._layout = DecodeLayout(longest, policy.device, shared, self._prefill.shared_tokens, stride)
        # Not a method: the KV cache would be freed late, with a cycle of references.
        layout = self._layout
        self._step = Step(lambda tokens, at: policy.hidden(tokens[None], at[None], layout), capture)
        self._groups: list[int] = []  # prompts in the layout, by number
        self._total, self._next = len(prompts) * n, 0
        self._last = torch.empty(0)  # the state behind the last prompt in the layout
        self.rows = torch.empty(0, dtype=torch.int64, device=policy.device)
        self.states = torch.empty(0)
        self._join()

    @property
    def ages(self) -> Tensor:
        """[B] tokens that each row has."""
        return self._layout.ages

    def feed(self, tokens: Tensor, going: Tensor) -> None:
        """Compute the states behind these tokens [B]; going: indices, increasing, of the rows that have not ended."""
        # With the last column filled the oldest rows have ended, and the others move to the front.
        full = self._layout.clock == self._longest - 1
        moved = full or len(going) < KEPT_SHARE * len(self.rows)
        if moved:
            going = going if full else self._filled_up(going)
            # Of the last group some rows may still wait.
            kept = self._layout.keep(going, last_group=self._next % self._n != 0)
            self._groups = [self._groups[index] for index in kept]
            self.rows, tokens = self.rows[going], tokens[going]
        if len(self.rows):
            self.states = self._step(tokens, self._layout.positions, self._layout.shape)
            self._layout.advance()
        if moved:
            self._join()

    def _filled_up(self, going: Tensor) -> Tensor:
        """With the youngest ended rows, so many that products do not have to be filled up, layer by layer."""
        further = padded_rows(len(going)) - len(going)
        if not 0 < further < len(self.rows) - len(going):
            return going
        ended = torch.ones_like(self.rows, dtype=torch.bool)
        ended[going] = False
        return torch.cat([going, ended.nonzero()[-further:, 0]]).sort().values

    def _join(self) -> None:
        """As many of the waiting rows as there is room for; at least one where none is at work."""
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
        self._layout.join(
            prefixes,
            self.rows.new_tensor([self._prefill.sizes[group] for group in further]),
            self.rows.new_tensor([place[row // self._n] for row in numbers]),
            last=self._next == self._total,
        )

    def _fits(self, row: int, groups: Sequence[int], rows: int) -> bool:
        """Whether another row fits beside so many of these groups."""
        held = {*groups, row // self._n}
        longest = max(self._prefill.sizes[group] for group in held)
        return rows == 0 or len(held) * longest + (rows + 1) * self._longest <= self._room


def bytes_per_token(config: Any, element: int) -> int:
    """Bytes of one token's keys and values in all layers; element: bytes of a number."""
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * element
