"""Whether an exported model, loaded without our loader, continues prompts as the run's own policy does.

Both compute in float32 and decode greedily: the policy with the run's own sampler, the export with `generate` of
transformers. In bfloat16 any two programs part at some token, whatever the files hold. Every token of the policy's
completions is compared. Where the two part, the export is asked for the log-probabilities of both tokens. A small
difference is a tie, which rounding decides: it is counted and reported, and the comparison goes on behind it with the
policy's token. Any larger difference is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from grandrounds.errors import PolicyError
from grandrounds.types import Prompt

# In nats: for the same weights, which are summed in another order; and for weights that were rounded to
# bfloat16, which on SmolLM2-135M moved 5 of 937 tokens, by 0.28 at most.
TIE, ROUNDED_TIE = 1e-3, 0.5
# Prompts that are decoded together.
ROWS = 8


@dataclass(frozen=True)
class Expected:
    """A prompt and the policy's greedy completion, with its end token."""

    prompt: Prompt
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """What was compared: prompts, tokens, and the ties among them. limit: the largest difference of a tie, in nats."""

    prompts: int
    tokens: int
    ties: int
    limit: float

    def __str__(self) -> str:
        said = f"the same {self.tokens:,} tokens as the run's policy on {self.prompts:,} held-out prompts"
        if not self.ties:
            return said
        ties = "1 tie" if self.ties == 1 else f"{self.ties:,} ties"
        return f"{said}, but for {ties} (log-probabilities less than {self.limit:g} apart)"


@dataclass(frozen=True)
class Loaded:
    """An exported model as transformers and PEFT load it. end_ids: the tokens that end a response."""

    model: Any
    tokenizer: Any
    end_ids: frozenset[int]

    @torch.no_grad()
    def greedy(self, rows: Sequence[Sequence[int]], longest: int) -> list[list[int]]:
        """At most `longest` further tokens of each row, up to its end token."""
        width, pad = max(map(len, rows)), min(self.end_ids)
        tokens = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
        real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        made = self.model.generate(
            input_ids=tokens.to(self.model.device),
            attention_mask=real.to(self.model.device),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=longest,
            eos_token_id=sorted(self.end_ids),
            pad_token_id=pad,
        )
        return [self._ended(row) for row in made[:, width:].tolist()]

    def _ended(self, row: list[int]) -> list[int]:
        ends = [place for place, token in enumerate(row) if token in self.end_ids]
        return row[: ends[0] + 1] if ends else row

    @torch.no_grad()
    def difference(self, row: Sequence[int], one: int, other: int) -> float:
        """How much likelier the export finds one token than another behind this row, in nats."""
        tokens = torch.tensor([list(row)], device=self.model.device)
        logprobs = self.model(input_ids=tokens, use_cache=False).logits[0, -1].float().log_softmax(-1)
        return float(logprobs[one] - logprobs[other])


def compare(loaded: Loaded, expected: Sequence[Expected], kind: str, limit: float = TIE) -> Check:
    """Compare every token. PolicyError at the first prompt where the two part by more than `limit` nats."""
    ties = 0
    waiting = [(place, 0) for place in range(len(expected))]  # prompt, tokens that are compared already
    while waiting:
        waiting.sort()
        batch, waiting = waiting[:ROWS], waiting[ROWS:]
        rows = [
            [*expected[place].prompt.tokens.tolist(), *expected[place].tokens[:done]] for place, done in batch
        ]
        longest = max(len(expected[place].tokens) - done for place, done in batch)
        for (place, done), row, made in zip(batch, rows, loaded.greedy(rows, longest), strict=True):
            wanted = expected[place].tokens[done:]
            same = _common(wanted, made)
            if same == len(wanted):
                continue
            apart = loaded.difference([*row, *wanted[:same]], made[same], wanted[same])
            if not abs(apart) <= limit:
                raise _parted(loaded, expected[place], place, done + same, made[same], apart, kind)
            ties += 1
            if same + 1 < len(wanted):
                waiting.append((place, done + same + 1))
    return Check(len(expected), sum(len(one.tokens) for one in expected), ties, limit)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens at the beginning that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _parted(
    loaded: Loaded, expected: Expected, place: int, token: int, made: int, apart: float, kind: str
) -> PolicyError:
    texts = [loaded.tokenizer.decode([one]) for one in (made, expected.tokens[token])]
    return PolicyError(
        f"the exported {kind} does not answer as the run's policy: it says {texts[0]!r} where the policy says "
        f"{texts[1]!r} (log-probabilities {apart:.3g} apart)",
        where=f"prompt {place + 1} (case {expected.prompt.case.id}), token {token + 1} of the response",
        hint="With --bfloat16, weights are rounded: leave it out. Else the base model is not the one that the run "
        "trained on.",
    )
