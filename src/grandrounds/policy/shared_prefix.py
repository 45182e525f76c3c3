"""Completion attention in two parts, merged exactly: all completions on their prompt, each on itself.

With o and l the output and log-sum-exp of a softmax over one part's keys, the softmax over both parts' keys
is

    l = log(exp l_1 + exp l_2),   o = exp(l_1 - l) o_1 + exp(l_2 - l) o_2

and its gradient through part i is that of the part's own kernel given the merged o and l: the kernel
recomputes its probabilities as exp(score - l). The G completions of a prompt are one block of queries on one
copy of its keys, and the causal part skips what the mask would hide.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def shared_prefix_attention(
    query: Tensor,  # [N, G, T, H, D]
    prompt_key: Tensor,  # [N, P, K, D]
    prompt_value: Tensor,  # [N, P, K, D]
    key: Tensor,  # [N, G, T, K, D]
    value: Tensor,  # [N, G, T, K, D]
    prompt_bias: Tensor | None,  # [N, 1, 1, P], 0 or -inf at padding; None: no prompt is padded
    scale: float,
) -> Tensor:  # [N, G, T, H, D]
    """Each query sees its whole prompt, and its own completion up to itself. CPU only."""
    return _SharedPrefix.apply(query, prompt_key, prompt_value, key, value, prompt_bias, scale)


def _on_prompt(states: Tensor) -> Tensor:
    """[N, G, T, H, D] -> [N, H, G·T, D]"""
    return states.flatten(1, 2).transpose(1, 2)


def _on_self(states: Tensor) -> Tensor:
    """[N, G, T, H, D] -> [N·G, H, T, D]"""
    return states.flatten(0, 1).transpose(1, 2)


class _SharedPrefix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        prompt_key: Tensor,
        prompt_value: Tensor,
        key: Tensor,
        value: Tensor,
        prompt_bias: Tensor | None,
        scale: float,
    ) -> Tensor:
        outer, outer_log = _forward(
            _on_prompt(query),
            prompt_key.transpose(1, 2),
            prompt_value.transpose(1, 2),
            attn_mask=prompt_bias,
            scale=scale,
        )
        own, own_log = _forward(_on_self(query), _on_self(key), _on_self(value), is_causal=True, scale=scale)
        lead = query.shape[:-1]  # [N, G, T, H]
        outer, own = outer.transpose(1, 2).reshape(query.shape), own.transpose(1, 2).reshape(query.shape)
        outer_log, own_log = (log.transpose(1, 2).reshape(lead) for log in (outer_log, own_log))
        share = torch.sigmoid(outer_log - own_log)[..., None]  # exp(l_1 - l)
        merged = torch.lerp(own, outer, share.to(own.dtype))
        log = torch.logaddexp(outer_log, own_log)
        ctx.save_for_backward(query, prompt_key, prompt_value, key, value, prompt_bias, merged, log)
        ctx.scale = scale
        return merged

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, prompt_key, prompt_value, key, value, prompt_bias, merged, log = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        outer = _backward(
            _on_prompt(gradient),
            _on_prompt(query),
            prompt_key.transpose(1, 2),
            prompt_value.transpose(1, 2),
            _on_prompt(merged),
            log.flatten(1, 2).transpose(1, 2).contiguous(),
            0.0,
            False,
            attn_mask=prompt_bias,
            scale=ctx.scale,
        )
        own = _backward(
            _on_self(gradient),
            _on_self(query),
            _on_self(key),
            _on_self(value),
            _on_self(merged),
            log.flatten(0, 1).transpose(1, 2).contiguous(),
            0.0,
            True,
            scale=ctx.scale,
        )
        grad_query = outer[0].transpose(1, 2).reshape(query.shape) + own[0].transpose(1, 2).reshape(
            query.shape
        )
        return (
            grad_query,
            outer[1].transpose(1, 2),
            outer[2].transpose(1, 2),
            own[1].transpose(1, 2).reshape(key.shape),
            own[2].transpose(1, 2).reshape(value.shape),
            None,
            None,
        )
