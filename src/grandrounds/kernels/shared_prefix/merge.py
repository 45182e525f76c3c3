"""Attention over keys that lie in several places, one softmax over all of them.

With o and l the output and log-sum-exp of a softmax over one part's keys, the softmax over two parts' keys is

    o = (1 - s) o_1 + s o_2,   s = sigmoid(l_2 - l_1),   l = log(exp l_1 + exp l_2)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from grandrounds.kernels.attention import Scoring

# Added to scores that are not to be seen. Finite: where a query sees nothing of a part, -inf would make NaN of it, and
# this gives it no weight beside any part of which something is seen.
UNSEEN = -1e30

# With fewer queries to each block of keys the fused kernel's many small products take longer than batched ones.
FUSED_QUERIES = 4

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Part = tuple[Tensor, Tensor]


def attention(
    query: Tensor,  # [N, H, Q, D]
    key: Tensor,  # [N, H, K, D]
    value: Tensor,  # [N, H, K, D]
    bias: Tensor | None,  # [N, 1, 1 or Q, K]; 0 or UNSEEN
    scoring: Scoring,  # its window is in the bias
) -> Part:
    """Output [N, H, Q, D] and log-sum-exp of the scores [N, H, Q], in float32 at least."""
    if scoring.softcap is None and query.device.type == "cpu" and query.shape[2] >= FUSED_QUERIES:
        return _fused(query, key, value, attn_mask=bias, scale=scoring.scale)
    scores, shares = _softmax(query, key, bias, scoring)
    # The largest share is exp(largest score - log-sum-exp), and not small: half the steps of a log-sum-exp.
    log = scores.amax(-1) - shares.amax(-1).log_()
    return shares.to(value.dtype) @ value, log


def undivided_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scoring: Scoring
) -> Tensor:
    """The output alone, where all keys lie in one place."""
    _, shares = _softmax(query, key, bias, scoring)
    return shares.to(value.dtype) @ value


def _softmax(query: Tensor, key: Tensor, bias: Tensor | None, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """Scores and their softmax, [N, H, Q, K]."""
    softcap, scores = scoring.softcap, query * scoring.scale @ key.mT
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if bias is not None:
        scores = scores + bias
    return scores, torch.softmax(scores, -1)


def merged(parts: Iterable[Part]) -> Tensor:
    """What attention over the keys of all parts would have put out."""
    (out, log), *others = parts
    for number, (other, other_log) in enumerate(others, start=1):
        share = torch.sigmoid(other_log - log)
        out = torch.lerp(out, other, share[..., None].to(out.dtype))
        if number < len(others):
            log = torch.logaddexp(log, other_log)
    return out


def unseen(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """A bias from what is hidden, bool of any shape."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, UNSEEN)
