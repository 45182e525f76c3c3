"""Log-sum-exp merge: attention over keys in several tensors, as one softmax over all of them.

Let o and l be the output and log-sum-exp of a softmax over one part's keys. The softmax over two parts' keys is

    o = (1 - s) o_1 + s o_2,   s = sigmoid(l_2 - l_1),   l = log(exp l_1 + exp l_2)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from grandrounds.kernels.attention import AttentionRule

# Added to the scores of masked keys. It is finite: where a whole part is masked, -inf would make its softmax NaN. With
# this value a fully masked part has no weight beside any other.
MASKED = -1e30

# With fewer queries per block of keys, the fused kernel's many small products take longer than batched products.
FUSED_QUERIES = 4

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Part = tuple[Tensor, Tensor]


def attention(
    query: Tensor,  # [N, H, Q, D]
    key: Tensor,  # [N, H, K, D]
    value: Tensor,  # [N, H, K, D]
    mask: Tensor | None,  # [N, 1, 1 or Q, K]; 0 or MASKED
    rule: AttentionRule,  # the mask already includes its window
) -> Part:
    """Output [N, H, Q, D] and log-sum-exp of the scores [N, H, Q], in float32 at least."""
    if rule.softcap is None and query.device.type == "cpu" and query.shape[2] >= FUSED_QUERIES:
        return _fused(query, key, value, attn_mask=mask, scale=rule.scale)
    scores, shares = scores_and_shares(query, key, mask, rule)
    # The largest share is exp(largest score - log-sum-exp), and not small. This takes half the steps of a log-sum-exp.
    log = scores.amax(-1) - shares.amax(-1).log_()
    return shares.to(value.dtype) @ value, log


def attention_output(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rule: AttentionRule
) -> Tensor:
    """The output alone, where all keys are in one tensor."""
    _, shares = scores_and_shares(query, key, mask, rule)
    return shares.to(value.dtype) @ value


def scores_and_shares(
    query: Tensor, key: Tensor, mask: Tensor | None, rule: AttentionRule
) -> tuple[Tensor, Tensor]:
    """Scores and their softmax, [N, H, Q, K]."""
    softcap, scores = rule.softcap, query * rule.scale @ key.mT
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if mask is not None:
        scores = scores + mask
    return scores, torch.softmax(scores, -1)


def merged(parts: Iterable[Part]) -> Tensor:
    """The output of attention over the keys of all parts."""
    (out, log), *others = parts
    for number, (other, other_log) in enumerate(others, start=1):
        share = torch.sigmoid(other_log - log)
        out = torch.lerp(out, other, share[..., None].to(out.dtype))
        if number < len(others):
            log = torch.logaddexp(log, other_log)
    return out


def additive_mask(masked: Tensor, dtype: torch.dtype) -> Tensor:
    """0 or MASKED from a bool tensor of any shape, which is True where a key is masked."""
    return torch.zeros(masked.shape, dtype=dtype, device=masked.device).masked_fill_(masked, MASKED)
