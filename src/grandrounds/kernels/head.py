"""The output head on completion tokens only: log-probabilities and entropy, in chunks.

The full [C, V] matrix of logits (C completion tokens, V vocabulary) never exists, neither in the forward nor in the
backward pass: the backward pass recomputes each chunk's logits. For a vocabulary of 151,936 the full matrix would be
by far the largest tensor of a training step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from grandrounds.kernels.products import add_product, linear, summing_type

CHUNK_BYTES = 8 << 20  # a chunk of logits that stays in the CPU cache: half the time of 32 MB, measured
CPU_COLUMNS = 4096  # vocabulary entries multiplied at once on a CPU, so that their logits stay in the cache
SMALLEST_CHUNK = 256  # tokens; with fewer, reading a large vocabulary's weights would dominate the time


def token_logprobs(
    hidden: Tensor,  # [C, d]
    weight: Tensor,  # [V, d]
    targets: Tensor,  # [C]
    *,
    bias: Tensor | None = None,  # [V]
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """log p(target | state) [C] and entropy of p [C]; p = softmax(cap(W h + b) / temperature).

    The entropy has no gradient unless it is asked for, which costs a third product by the weights.

    cap(z) = softcap · tanh(z / softcap) where the model has a softcap. Results are float32 (float64 for float64
    states). The softmax is computed in that precision, whatever the weights' type. `chunk`: tokens at a time.
    """
    chunk = chunk or chunk_rows(weight.shape[0])
    logprobs, entropy = _TokenLogprobs.apply(
        hidden, weight, bias, targets, softcap, temperature, chunk, entropy_gradient
    )
    return logprobs, entropy


def chunk_rows(vocabulary: int) -> int:
    """The number of tokens whose logits exist at once."""
    return max(SMALLEST_CHUNK, CHUNK_BYTES // (4 * vocabulary))


def _logits(
    hidden: Tensor,  # [c, d]
    weight: Tensor,
    bias: Tensor | None,
    softcap: float | None,
    temperature: float,
    buffer: Tensor,  # [at least c, V], float32 or float64
) -> Tensor:  # [c, V], a part of the buffer
    logits = buffer[: len(hidden)]
    columns = CPU_COLUMNS if logits.device.type == "cpu" else len(weight)
    for start in range(0, len(weight), columns):
        part = slice(start, start + columns)
        logits[:, part] = linear(hidden, weight[part])
    if bias is not None:
        logits.add_(bias)
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    if temperature != 1.0:
        logits.div_(temperature)
    return logits


def _buffer(hidden: Tensor, weight: Tensor, chunk: int) -> Tensor:
    """A buffer for one chunk's logits. All chunks reuse it: allocating new memory costs more than the arithmetic."""
    precision = summing_type(hidden)
    return hidden.new_empty(min(chunk, len(hidden)), weight.shape[0], dtype=precision)


class _TokenLogprobs(torch.autograd.Function):
    """With a frozen head, the forward pass takes the gradient of each log-prob with respect to its state at once, while
    the logits exist. A trained head's gradient needs the gradient of the log-probs, so the backward pass recomputes the
    logits."""

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
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        buffer = _buffer(hidden, weight, chunk)
        logprobs, entropy, normaliser = buffer.new_empty(3, len(hidden))
        wants_hidden, *wants_head = ctx.needs_input_grad[:3]
        at_once = wants_hidden and not any(wants_head) and not entropy_gradient
        slopes = torch.empty_like(hidden) if at_once else None
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = _logits(hidden[part], weight, bias, softcap, temperature, buffer)
            target = targets[part, None]
            cap = _cap_slope(logits, softcap, temperature) if slopes is not None else None
            probabilities = _softmax_(logits, target, logprobs[part], entropy[part], normaliser[part])
            if slopes is not None:
                torch.mm(_dlogits(probabilities, target, cap, weight.dtype), weight, out=slopes[part])
        if slopes is None:
            ctx.save_for_backward(
                hidden, weight, bias, targets, normaliser, entropy if entropy_gradient else None
            )
        else:
            ctx.save_for_backward(slopes.div_(-temperature))
        ctx.softcap, ctx.temperature, ctx.chunk = softcap, temperature, chunk
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if len(ctx.saved_tensors) == 1:
            (slopes,) = ctx.saved_tensors
            return slopes * gradients[0][:, None].to(slopes.dtype), None, None, None, None, None, None, None
        hidden, weight, bias, targets, normaliser, entropy = ctx.saved_tensors
        softcap, temperature = ctx.softcap, ctx.temperature
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        # Summed over chunks in float32: bfloat16 sums would lose small terms.
        grad_weight = torch.zeros_like(weight, dtype=normaliser.dtype) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=normaliser.dtype) if wants_bias else None
        buffer = _buffer(hidden, weight, ctx.chunk)
        for start in range(0, len(hidden), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = _logits(hidden[part], weight, bias, softcap, temperature, buffer)
            cap = _cap_slope(logits, softcap, temperature)
            logs, target = logits.sub_(normaliser[part, None]), targets[part, None]
            factor = gradients[0][part, None] / -temperature
            if entropy is None:
                exact = logs.exp_()
                dlogits = _dlogits(exact, target, cap, weight.dtype)
            else:
                of_entropy = gradients[1][part, None] / -temperature
                exact = _dlogits_of_both(logs, target, entropy[part, None], factor, of_entropy, cap)
                dlogits, factor = exact.to(weight.dtype), torch.ones_like(factor)
            # The gradient of the log-probs scales rows. Scaling the narrow states is cheaper than the wide logits.
            if grad_hidden is not None:
                torch.mm(dlogits, weight, out=grad_hidden[part]).mul_(factor.to(hidden.dtype))
            if grad_weight is not None:
                add_product(grad_weight, dlogits.T, hidden[part] * factor.to(hidden.dtype))
            if grad_bias is not None:
                grad_bias += exact.T @ factor[:, 0]
            del dlogits  # with narrow weights it is a copy, which would add to the next chunk's logits
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None, None


def _softmax_(
    logits: Tensor,  # [c, V]
    target: Tensor,  # [c, 1]
    logprobs: Tensor,  # [c], written
    entropy: Tensor,  # [c], written
    normaliser: Tensor,  # [c], written: log of the softmax's denominator
) -> Tensor:  # [c, V]
    """Probabilities, written over the logits. On a CPU it works on as many rows at a time as stay in the cache."""
    cached = CHUNK_BYTES // (logits.shape[1] * logits.element_size())
    step = max(1, cached) if logits.device.type == "cpu" else len(logits)
    logs_buffer = torch.empty_like(logits[:step])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        part, word = logits[rows], target[rows]
        chosen = part.gather(1, word)[:, 0]
        logs = torch.log_softmax(part, -1, out=logs_buffer[: len(part)])
        logprobs[rows] = logs.gather(1, word)[:, 0]
        normaliser[rows] = chosen - logprobs[rows]
        torch.exp(logs, out=part)
        entropy[rows] = -logs.mul_(part).sum(1)  # in place
    return logits


def _cap_slope(logits: Tensor, softcap: float | None, temperature: float) -> Tensor | None:
    """Derivative of the softcap, 1 - tanh², from logits that are already capped and divided by the temperature."""
    return None if softcap is None else 1 - (logits * (temperature / softcap)).square_()


def _dlogits(
    probabilities: Tensor,  # [c, V], overwritten
    target: Tensor,  # [c, 1]
    cap: Tensor | None,  # [c, V]
    dtype: torch.dtype,
) -> Tensor:  # [c, V]
    """-T d log p_y / d z_v = p_v - [v = y], through the softcap, in the weights' precision."""
    probabilities.scatter_add_(1, target, probabilities.new_full((), -1.0).expand(target.shape))
    if cap is not None:
        probabilities.mul_(cap)
    return probabilities.to(dtype)


def _dlogits_of_both(
    logs: Tensor,  # [c, V], log p, overwritten
    target: Tensor,  # [c, 1]
    entropy: Tensor,  # [c, 1]
    of_logprob: Tensor,  # [c, 1], gradient divided by -T
    of_entropy: Tensor,  # [c, 1], likewise
    cap: Tensor | None,  # [c, V]
) -> Tensor:  # [c, V]
    """The gradient of logits where both outputs have one, through the softcap; -T dH / d z_v = p_v (log p_v + H)."""
    probabilities = logs.exp()
    dlogits = logs.add_(entropy).mul_(of_entropy).add_(of_logprob).mul_(probabilities)
    dlogits.scatter_add_(1, target, -of_logprob)
    return dlogits if cap is None else dlogits.mul_(cap)
