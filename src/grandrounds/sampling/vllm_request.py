"""What vLLM is asked for a row, and what its answer says, in our terms.

Temperature, top-p, top-k and min-p mean the same, but for two things of vLLM's: it filters by min-p before top-k and
top-p, we after them; and it takes temperatures between 0 and 0.01 for 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from grandrounds.sampling.live_row import Chosen, LiveRow, RowRequest
from grandrounds.sampling.noise import generator


@dataclass
class VllmRequest:
    """A request of vLLM's that goes on with a row from where the row was when it was made.

    number: of the row's requests, from 0. tokens: of the completion, those that vLLM has: what was kept, what is to
    be written, and what it has sampled since. repairs, banned: the row's, then.
    """

    row: LiveRow
    number: int
    tokens: int
    repairs: int
    banned: frozenset[int]

    @classmethod
    def of(cls, row: LiveRow, number: int) -> VllmRequest:
        """The request that goes on with the row as it is now."""
        return cls(row, number, len(row.chosen) + len(row.forced), row.repairs, frozenset(row.banned))

    def prompt(self) -> list[int]:
        """The tokens from which vLLM goes on: the prompt, what was kept and what is to be written."""
        row = self.row
        return [*row.request.prompt.tokens.tolist(), *(one.token for one in row.chosen), *row.forced]

    def arguments(self, ends: frozenset[int]) -> dict[str, Any]:
        """The arguments of `vllm.SamplingParams`, but for the kind of output. ends: tokens that end a response."""
        request, row = self.row.request, self.row
        settings = request.settings
        return {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "min_p": settings.min_p,
            "seed": seed_of(request, self.number),
            # Tokens are excluded at one place only. Where all that is left is written, vLLM must still sample one.
            "max_tokens": 1 if self.banned else max(1, settings.max_new_tokens - self.tokens),
            "stop_token_ids": sorted(ends),
            "ignore_eos": True,  # those above are all that ends a response
            "logit_bias": dict.fromkeys(sorted(self.banned), -math.inf) or None,
            "logprobs": request.top,
            "prompt_logprobs": request.top if row.forced else None,
            "detokenize": False,
        }

    def chosen(self, output: Any) -> Iterator[Chosen]:
        """The row's next tokens, from an output of vLLM's: what is to be written, and then what was sampled.

        Each is to be taken before the next one is asked for.
        """
        row, (completion,) = self.row, output.outputs
        while row.forced:
            place, token = row.length, row.forced.popleft()
            there = output.prompt_logprobs[place] if row.request.top is not None else None
            yield Chosen(token, *reported(there, token, row.request.top), forced=True)
        for token, there in zip(completion.token_ids, completion.logprobs or repeat(None), strict=False):
            if token in self.banned:
                raise RuntimeError("vLLM sampled a token that was excluded")
            self.tokens += 1
            yield Chosen(token, *reported(there, token, row.request.top))

    def outdated(self) -> bool:
        """Whether the row has left the tokens that vLLM goes on from: by a repair, or by refusing the newest one."""
        row = self.row
        return row.repairs != self.repairs or len(row.chosen) + len(row.forced) != self.tokens


def seed_of(request: RowRequest, number: int) -> int:
    """The seed of a row's request: the same for the same key, another for each request, so that no noise comes back."""
    key = (*request.key, "vllm", number)
    return int(generator(key, request.prompt.case.id, request.place).integers(2**63))


def reported(
    there: Mapping[int, Any] | None, token: int, most: int | None
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """(the token's log-prob, the likeliest tokens with theirs) from those of its place; zero and none without them."""
    if there is None:
        return 0.0, ()
    likeliest = sorted((one.rank, other, one.logprob) for other, one in there.items())
    return there[token].logprob, tuple((other, log) for _, other, log in likeliest[:most])
