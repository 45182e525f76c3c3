"""The output head on completion tokens only: log-probabilities and entropy, in chunks.

The [C, V] matrix of logits (C completion tokens, V vocabulary) never exists whole, neither forward nor
backward: the backward pass computes each chunk's logits once more. For a vocabulary of 151,936 the whole
matrix would be the largest tensor of a training step by far.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = (
    16 << 20
)  # one chunk of float32 logits; measured: larger leaves the cache, smaller wastes launches


def token_logprobs(
    hidden: Tensor,  # [C, d]
    weight: Tensor,  # [V, d]
    targets: Tensor,  # [C]
    *,
    bias: Tensor | None = None,  # [V]
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log p(target | state) [C] and entropy of p [C, no gradient]; p = softmax(cap(W h + b) / temperature).

    cap(z) = softcap · tanh(z / softcap) where the model has one. Results are float32 (float64 for float64
    states); the softmax is taken in that precision whatever the weights' type. `chunk`: tokens at a time.
    """
    chunk = chunk or max(1, CHUNK_BYTES // (4 * weight.shape[0]))
    logprobs, entropy = _TokenLogprobs.apply(hidden, weight, bias, targets, softcap, temperature, chunk)
    return logprobs, entropy


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, temperature: float
) -> Tensor:
    """[c, V] in float32 or float64; a fresh tensor, free to be written to."""
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    if temperature != 1.0:
        logits.div_(temperature)
    return logits


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        softcap: float | None,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        precision = torch.promote_types(hidden.dtype, torch.float32)
        logprobs = hidden.new_empty(len(hidden), dtype=precision)
        entropy = torch.empty_like(logprobs)
        normaliser = torch.empty_like(logprobs)  # log of the softmax's denominator
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = _logits(hidden[part], weight, bias, softcap, temperature)
            total = torch.logsumexp(logits, -1)
            normaliser[part] = total
            logprobs[part] = logits.gather(1, targets[part, None])[:, 0] - total
            # H = -Σ p log p = log Z - Σ p z
            probabilities = (logits - total[:, None]).exp_()
            entropy[part] = total - torch.linalg.vecdot(probabilities, logits)
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.softcap, ctx.temperature, ctx.chunk = softcap, temperature, chunk
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        gradient, softcap, temperature = gradients[0], ctx.softcap, ctx.temperature
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        # Summed over chunks in float32: bfloat16 sums would lose the small terms.
        grad_weight = torch.zeros_like(weight, dtype=normaliser.dtype) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=normaliser.dtype) if wants_bias else None
        for start in range(0, len(hidden), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = _logits(hidden[part], weight, bias, softcap, temperature)
            # d log p_y / d z_v = [v = y] - p_v, through the temperature and the cap's 1 - tanh²
            delta = gradient[part, None] / temperature
            slope = None if softcap is None else 1 - (logits * (temperature / softcap)).square_()
            logits.sub_(normaliser[part, None]).exp_().mul_(-delta)
            logits.scatter_add_(1, targets[part, None], delta)
            if slope is not None:
                logits.mul_(slope)
            narrow = logits.to(weight.dtype)
            if grad_hidden is not None:
                torch.mm(narrow, weight, out=grad_hidden[part])
            if grad_weight is not None:
                if narrow.dtype == grad_weight.dtype:
                    grad_weight.addmm_(narrow.T, hidden[part])
                else:
                    grad_weight += narrow.T @ hidden[part]
            if grad_bias is not None:
                grad_bias += logits.sum(0)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None
