"""A batch that requests join and leave at any step, decoded by an engine of vLLM's in this process.

A row is a request of vLLM's as long as it only grows. Where it takes tokens back, has text written or excludes tokens,
its request is aborted and another one goes on from what was kept: vLLM's prefix cache has nearly all of it. So the same
`LiveRow` holds a response to its form, whatever decodes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import count
from typing import Any

from grandrounds.sampling.live_row import LiveRow, RowRequest
from grandrounds.sampling.vllm_request import VllmRequest


class VllmBatch:
    """The rows that are decoded together. Not to be used by two threads.

    library: the module vllm. engine: a `vllm.LLMEngine`. ends: tokens that end a response.
    """

    def __init__(self, library: Any, engine: Any, tokenizer: Any, ends: frozenset[int]) -> None:
        self.rows: list[LiveRow] = []
        self._library, self._engine = library, engine
        self._tokenizer, self._ends = tokenizer, ends
        self._requests: dict[str, VllmRequest] = {}  # by vLLM's ids
        self._salts: dict[LiveRow, str] = {}
        self._names = count()
        self._dead = False

    def close(self) -> None:
        """Free vLLM's memory."""
        self._engine.engine_core.shutdown()

    def recover(self) -> bool:
        """Remove all rows, after something raised. Others can be decoded unless it was vLLM itself."""
        if self._dead:  # nor is it asked to abort anything
            self.rows.clear()
            self._requests.clear()
            return False
        self.leave(self.rows)
        return True

    def fits(self, requests: Sequence[RowRequest], *, alone: bool = False) -> bool:
        """Always: vLLM has rows wait by itself, and any that is as long as the context has room alone."""
        return True

    def join(self, requests: Sequence[RowRequest]) -> list[LiveRow]:
        """Add rows of one prompt. What vLLM's prefix cache has of them serves these rows alone."""
        rows = [LiveRow(request, self._tokenizer, self._ends) for request in requests]
        self.rows += rows
        self._salts |= dict.fromkeys(rows, secrets.token_hex(16))
        for row in rows:
            self._submit(VllmRequest.of(row, 0))
        return rows

    def step(self) -> None:
        """Give rows their next tokens. Rows that end with them leave; they stay readable."""
        try:
            outputs = self._engine.step()
        except Exception:
            self._dead = True
            raise
        for output in outputs:
            self._take(output)
        self.leave([row for row in self.rows if row.finish])

    def leave(self, rows: Sequence[LiveRow]) -> None:
        """Remove rows, ended or not. Those that are not there are ignored."""
        gone = set(rows)
        open_requests = [name for name, request in self._requests.items() if request.row in gone]
        if open_requests:
            self._engine.abort_request(open_requests)
        for name in open_requests:
            del self._requests[name]
        for row in gone:
            self._salts.pop(row, None)
        self.rows = [row for row in self.rows if row not in gone]

    def _submit(self, request: VllmRequest) -> None:
        name = str(next(self._names))
        self._requests[name] = request
        self._engine.add_request(
            name,
            {"prompt_token_ids": request.prompt(), "cache_salt": self._salts[request.row]},
            self._library.SamplingParams(
                **request.arguments(self._ends),
                output_kind=self._library.sampling_params.RequestOutputKind.DELTA,
            ),
        )

    def _take(self, output: Any) -> None:
        """Give a row what vLLM has for it, as far as the row follows, and have vLLM go on from where it left."""
        request = self._requests.get(output.request_id)
        if request is None:
            return
        row, before = request.row, request.tokens
        for chosen in request.chosen(output):
            row.take(chosen)
            if row.finish or request.outdated():
                break
        else:
            if not output.finished:
                return
            if request.tokens == before:
                raise RuntimeError("vLLM ended a request without a token")
        if output.finished:
            del self._requests[output.request_id]
        if row.finish:
            return  # it leaves with the others
        if not output.finished:
            self._engine.abort_request([output.request_id])
            del self._requests[output.request_id]
        self._submit(VllmRequest.of(row, request.number + 1))
