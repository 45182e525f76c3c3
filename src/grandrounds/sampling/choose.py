"""Chooses the next token: filters the distribution and draws once from the rest. All in float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.sampling.sampler import SamplingSettings

# Tokens of the vocabulary that are summed together.
BLOCK = 256


def choose(
    logits: Tensor,  # [B, V]
    row: Tensor,  # [m], the row of each completion
    noise: Tensor,  # [m] in [0, 1)
    settings: SamplingSettings,
) -> tuple[Tensor, Tensor]:  # tokens [m], log-probs [m] float32
    """One token for each completion, and its log-prob under the distribution it was drawn from.

    Greedy decoding (temperature 0) takes the likeliest token. Its log-prob is under the unfiltered distribution at
    temperature 1.
    """
    logits = logits.float()
    if settings.temperature == 0:
        tokens = logits.argmax(-1)[row]
        probabilities = torch.softmax(logits, -1)
    else:
        scaled = logits if settings.temperature == 1 else logits / settings.temperature
        probabilities = torch.softmax(filtered(scaled, settings), -1)
        tokens = _inverse_cdf(probabilities, row, noise)
    # The log is exact enough: a sampled token's probability is far above float32's smallest number.
    return tokens, probabilities[row, tokens].log()


def filtered(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Logits with -inf where top-k, then top-p, then min-p exclude a token. The likeliest token always stays."""
    if 0 < settings.top_k < logits.shape[-1]:
        least = logits.topk(settings.top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if settings.top_p < 1:
        # A stable sort: which of several equal tokens stay must not depend on the rest of the batch.
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probabilities = torch.softmax(ordered, -1)
        # A token stays while the probability mass before it is below top_p (arXiv:1904.09751, section 3.1).
        excluded = probabilities.cumsum(-1) - probabilities >= settings.top_p
        logits = logits.masked_fill(torch.zeros_like(excluded).scatter_(-1, order, excluded), -torch.inf)
    if settings.min_p > 0:
        probabilities = torch.softmax(logits, -1)
        least = settings.min_p * probabilities.amax(-1, keepdim=True)  # arXiv:2407.01082
        logits = logits.masked_fill(probabilities < least, -torch.inf)
    return logits


def _inverse_cdf(probabilities: Tensor, row: Tensor, noise: Tensor) -> Tensor:
    """The first token of its row whose cumulative probability exceeds the noise; never a token of probability zero.

    Blocks of the vocabulary are summed and one is chosen, then a token in it: with 49,152 tokens and 48 rows a running
    sum over all of them takes four times as long on a CPU.
    """
    if further := -probabilities.shape[1] % BLOCK:
        probabilities = F.pad(probabilities, (0, further))
    blocks = probabilities.unflatten(1, (-1, BLOCK))  # [B, V / BLOCK, BLOCK]
    up_to = blocks.sum(-1).cumsum(-1)[row]
    block, target = _first_above(up_to, noise * up_to[:, -1])
    before = F.pad(up_to, (1, 0)).gather(1, block)
    within = blocks[row, block[:, 0]]
    place, _ = _first_above(within.cumsum(-1), (target - before)[:, 0])
    return (block * BLOCK + place)[:, 0]


def _first_above(cumulative: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first place [B, 1] of each row at which its sums exceed the target, lowered to where there is one [B, 1]."""
    last = cumulative[:, -1]
    target = torch.minimum(target.clamp(min=0), torch.nextafter(last, torch.zeros_like(last)))[:, None]
    return torch.searchsorted(cumulative, target, right=True), target
