"""Attention in parts is attention over all keys at once."""

from __future__ import annotations

import pytest
import torch

from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix.merge import additive_mask, attention, attention_output, merged

SCALE = 0.3


def _states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_merged_parts_are_one_softmax(dtype: torch.dtype, softcap: float | None) -> None:
    query, key, value = _states(2, 3, 4, 8), _states(2, 3, 15, 8), _states(2, 3, 15, 9)[..., :8]
    hidden = torch.zeros(2, 1, 1, 15, dtype=torch.bool)
    hidden[0, ..., :5] = True  # a whole part out of sight
    hidden[1, ..., 6:9] = True
    scores = query @ key.mT * SCALE
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    expected = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1) @ value
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bias = additive_mask(hidden, dtype)
    parts = [
        attention(
            query, key[:, :, a:b], value[:, :, a:b], bias[..., a:b], AttentionRule(SCALE, softcap=softcap)
        )
        for a, b in ((0, 5), (5, 12), (12, 15))
    ]
    torch.testing.assert_close(merged(parts), expected.to(dtype), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(merged(reversed(parts)), expected.to(dtype), rtol=1e-5, atol=1e-6)
    whole = attention_output(query, key, value, bias, AttentionRule(SCALE, softcap=softcap))
    torch.testing.assert_close(whole, expected.to(dtype), rtol=1e-5, atol=1e-6)


def test_the_plain_way_is_the_fused_way() -> None:
    """What a GPU computes, for which the fused kernel of CPUs is not there."""
    query, key, value = (_states(2, 3, size, 8).float() for size in (4, 6, 6))
    fused = attention(query, key, value, None, AttentionRule(SCALE))
    plain = attention(query, key, value, None, AttentionRule(SCALE, softcap=1e4))
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
