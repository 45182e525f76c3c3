"""A batch that requests join and leave at any step: continuous batching for requests that come one by one.

`native.NativeSampler` decodes groups that are all known beforehand. Both choose tokens by the same functions from the
same keyed noise, so that a completion does not depend on which of them decodes it, nor on what is decoded beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.errors import PolicyError
from grandrounds.policy.model import Policy
from grandrounds.sampling.choose import choose
from grandrounds.sampling.engine import Engine
from grandrounds.sampling.kv_cache import KV_CACHE_BYTES, bytes_per_token
from grandrounds.sampling.live_cache import COLUMNS, ROWS, LiveCache, rounded
from grandrounds.sampling.live_row import Chosen, LiveRow, RowRequest
from grandrounds.sampling.native import rows_at_once
from grandrounds.sampling.prefill import Prefill
from grandrounds.sampling.sampler import SamplingSettings

# Rows of one pass. On a CPU a product's last bits are the same for 2 to 32 rows, and may differ for one or for more:
# with these bounds a row's states do not depend on how many are beside it.
LEAST_ROWS, PASS_ROWS = 2, 32


def native_engine(policy: Policy) -> Engine:
    """The engine that decodes by the policy itself."""
    description = f"{policy.precision} on {policy.device.type}"
    return Engine(policy.tokenizer, policy.max_positions, description, LiveBatch(policy))


class LiveBatch:
    """The rows that are decoded together. Each step gives each of them one token. Not to be used by two threads."""

    def __init__(self, policy: Policy) -> None:
        if not policy.kernels.shared_prefix:
            raise PolicyError(
                "serving needs the kernel shared_prefix, which is switched off",
                where="policy.kernels.shared_prefix",
                hint="Leave it on. A model that cannot be loaded with it cannot be served.",
            )
        self.policy = policy
        self.rows: list[LiveRow] = []
        self._cache = LiveCache(policy.device)
        self._states = torch.empty(0)  # [B, d], each row's state that gives its next token
        self._token_bytes = bytes_per_token(policy.base.config, policy.head().weight.element_size())
        self._open = ExitStack()
        self._open.enter_context(policy.packed())

    def close(self) -> None:
        """Free the packed weights."""
        self._open.close()

    def recover(self) -> bool:
        """Remove all rows, after something raised. Others can always be decoded."""
        self.rows, self._cache, self._states = [], LiveCache(self.policy.device), torch.empty(0)
        return True

    def fits(self, requests: Sequence[RowRequest], *, alone: bool = False) -> bool:
        """Whether the KV cache has room for these beside the rows that are there. alone: if there were none."""
        present = [] if alone else [row.request for row in self.rows]
        rows = len(present) + len(requests)
        size = rounded(rows, ROWS) * rounded(_columns([*present, *requests]), COLUMNS)
        return size * self._token_bytes <= KV_CACHE_BYTES

    @torch.inference_mode()
    def join(self, requests: Sequence[RowRequest]) -> list[LiveRow]:
        """Add rows of one prompt. It is computed once, and by itself: nothing beside it changes its last bits."""
        tokens = requests[0].prompt.tokens
        prefixes, state = Prefill(self.policy, [tokens]).compute([0])
        rows = [LiveRow(request, self.policy.tokenizer, self.policy.eos_ids) for request in requests]
        self.rows += rows
        self._cache.join(prefixes, len(rows), _columns([row.request for row in self.rows]))
        joined = state.expand(len(rows), -1)
        self._states = torch.cat([self._states, joined]) if len(self.rows) > len(rows) else joined.clone()
        return rows

    @torch.inference_mode()
    def step(self) -> None:
        """Give each row its next token. Rows that end with it leave; they stay readable."""
        chosen = self._choose()
        for row, token in zip(self.rows, chosen, strict=True):
            row.take(token)
        self.leave([row for row in self.rows if row.finish])
        if self.rows:
            self._compute()

    @torch.inference_mode()
    def leave(self, rows: Sequence[LiveRow]) -> None:
        """Remove rows, ended or not. Those that are not there are ignored."""
        gone = {id(row) for row in rows}
        for place in reversed(range(len(self.rows))):
            if id(self.rows[place]) in gone:
                self._cache.drop(place)
                self._states[place] = self._states[-1]
                self._states = self._states[:-1]
                last = self.rows.pop()
                if place < len(self.rows):
                    self.rows[place] = last

    def _compute(self) -> None:
        """The states of all rows' newest tokens."""
        states = []
        for first, rows in self._passes():
            tokens = self._filled([row.newest for row in rows])
            lengths = self._filled([row.length - 1 for row in rows])
            self._cache.place(first, lengths[: len(rows)])
            states.append(self.policy.hidden(tokens[None], lengths[None], self._cache)[: len(rows)])
        self._states = torch.cat(states)

    def _passes(self) -> Iterator[tuple[int, list[LiveRow]]]:
        """The rows that are computed together, with the number of the first."""
        at_once = min(PASS_ROWS, rows_at_once(self.policy.head().weight.shape[0]))
        for first in range(0, len(self.rows), at_once):
            yield first, self.rows[first : first + at_once]

    def _filled(self, numbers: list[int]) -> Tensor:
        """Numbers of a pass, with those of rows that fill it up."""
        filled = [*numbers, *[0] * (LEAST_ROWS - len(numbers))]
        return torch.tensor(filled, device=self.policy.device)

    def _choose(self) -> list[Chosen]:
        chosen: list[Chosen] = []
        for first, rows in self._passes():
            states = self._states[first : first + len(rows)]
            states = F.pad(states, (0, 0, 0, max(0, LEAST_ROWS - len(rows))))
            chosen += self._chosen(rows, self.policy.logits(states)[: len(rows)])
        return chosen

    def _chosen(self, rows: Sequence[LiveRow], logits: Tensor) -> list[Chosen]:
        """A token for each row from its logits [b, V]: the next one that a repair wrote, or one sampled."""
        tokens: list[int] = [row.forced.popleft() if row.forced else -1 for row in rows]
        forced = [token >= 0 for token in tokens]
        by_settings: dict[SamplingSettings, list[int]] = {}
        for place, row in enumerate(rows):
            if not forced[place]:
                by_settings.setdefault(_choosing(row.request.settings), []).append(place)
        for settings, places in by_settings.items():
            noise = np.array([rows[place].noise.random(dtype=np.float32) for place in places])
            part = logits[places]
            for index, place in enumerate(places):
                if rows[place].banned:
                    part[index, sorted(rows[place].banned)] = -torch.inf
            own = torch.arange(len(places), device=logits.device)
            sampled, _ = choose(part, own, torch.from_numpy(noise).to(logits.device), settings)
            for place, token in zip(places, sampled.tolist(), strict=True):
                tokens[place] = token
        reported = _logprobs(rows, logits, tokens)
        return [
            Chosen(token, *reported.get(place, (0.0, ())), forced[place])
            for place, token in enumerate(tokens)
        ]


def _choosing(settings: SamplingSettings) -> SamplingSettings:
    """The settings that tokens are chosen by, so that rows that differ in others are chosen for together."""
    return SamplingSettings(1, settings.temperature, settings.top_p, settings.top_k, settings.min_p)


def _logprobs(
    rows: Sequence[LiveRow], logits: Tensor, tokens: Sequence[int]
) -> dict[int, tuple[float, tuple[tuple[int, float], ...]]]:
    """For the rows that asked: the log-prob of its token, and the likeliest tokens with theirs."""
    asked = [place for place, row in enumerate(rows) if row.request.top is not None]
    if not asked:
        return {}
    logs = torch.log_softmax(logits[asked].float(), -1)
    own = logs.gather(1, torch.tensor([[tokens[place]] for place in asked], device=logits.device))[:, 0]
    most = max(rows[place].request.top or 0 for place in asked)
    top = logs.topk(most, -1)
    pairs = [
        tuple(zip(ids, values, strict=True))
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    return {
        place: (log, pairs[index][: rows[place].request.top or 0])
        for index, (place, log) in enumerate(zip(asked, own.tolist(), strict=True))
    }


def _columns(requests: Sequence[RowRequest]) -> int:
    """The columns that the longest of them may need."""
    return max((len(row.prompt.tokens) + row.settings.max_new_tokens for row in requests), default=0)
