"""Tree attention on a CPU in parts, merged exactly: each sequence on itself, all completions on their prompt.

With o and l the output and log-sum-exp of a softmax over one part's keys, the softmax over both parts' keys
is

    l = log(exp l_1 + exp l_2),   o = exp(l_1 - l) o_1 + exp(l_2 - l) o_2

and its gradient through part i is that of the part's own kernel given the merged o and l: the kernel
recomputes its probabilities as exp(score - l). The completions of a prompt are one block of queries on one
copy of its keys, however long each is, and the causal parts skip what a mask would hide.

Every part is a run of rows beside one another, so that nothing is gathered, copied or padded. Shapes: S rows, H query
heads, K key-value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Run:
    """Rows that hold sequences of one length, one after another."""

    rows: slice
    length: int

    def of(self, states: Tensor) -> Tensor:
        """The run's part of states [S, ·, D] as a batch [sequences, ·, length, D]; a view."""
        return states[self.rows].unflatten(0, (-1, self.length)).transpose(1, 2)

    def into(self, states: Tensor) -> Tensor:
        """A batch [sequences, ·, length, D] as rows again, [rows, ·, D]."""
        return states.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class Family:
    """Prompts of one length, and behind them their completions.

    completions: as runs of one length. joined: the same rows, all completions of a prompt as one sequence.
    """

    prompts: Run
    completions: tuple[Run, ...]
    joined: Run


def tree_attention(
    query: Tensor,  # [S, H, D]
    key: Tensor,  # [S, K, D]
    value: Tensor,  # [S, K, D]
    families: Sequence[Family],
    scale: float,
) -> Tensor:  # [S, H, D]
    """Each token sees its own sequence up to itself, and behind a prompt the whole of it. CPU only."""
    return _TreeAttention.apply(query, key, value, families, scale)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, families: Sequence[Family], scale: float
    ) -> Tensor:
        out = query.new_empty(query.shape)
        log = query.new_empty(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
        for family in families:
            for run in (family.prompts, *family.completions):
                own, own_log = _forward(
                    run.of(query), run.of(key), run.of(value), is_causal=True, scale=scale
                )
                out[run.rows], log[run.rows] = run.into(own), run.into(own_log)
            joined, prompts = family.joined, family.prompts
            outer, outer_log = _forward(joined.of(query), prompts.of(key), prompts.of(value), scale=scale)
            outer, outer_log = joined.into(outer), joined.into(outer_log)
            share = torch.sigmoid(outer_log - log[joined.rows])[..., None]  # exp(l_1 - l)
            out[joined.rows].lerp_(outer, share.to(out.dtype))
            torch.logaddexp(log[joined.rows], outer_log, out=log[joined.rows])
        ctx.save_for_backward(query, key, value, out, log)
        ctx.families, ctx.scale = families, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *states, log = ctx.saved_tensors
        # The kernel takes bfloat16 too, but for short sequences twice the time, and sums would be rounded in between.
        query, key, value, out = (tensor.to(log.dtype) for tensor in states)
        gradient = gradients[0].to(log.dtype).contiguous()

        def part(seeing: Run, seen: Run, causal: bool) -> tuple[Tensor, ...]:
            grads = _backward(
                seeing.of(gradient),
                seeing.of(query),
                seen.of(key),
                seen.of(value),
                seeing.of(out),
                seeing.of(log[..., None])[..., 0].contiguous(),
                0.0,
                causal,
                scale=ctx.scale,
            )
            return seeing.into(grads[0]), seen.into(grads[1]), seen.into(grads[2])

        to_query, to_key, to_value = (states.new_empty(states.shape) for states in (query, key, value))
        for family in ctx.families:
            for run in (family.prompts, *family.completions):
                to_query[run.rows], to_key[run.rows], to_value[run.rows] = part(run, run, True)
            outer = part(family.joined, family.prompts, False)
            to_query[family.joined.rows] += outer[0]
            to_key[family.prompts.rows] += outer[1]
            to_value[family.prompts.rows] += outer[2]
        dtype = states[0].dtype
        return to_query.to(dtype), to_key.to(dtype), to_value.to(dtype), None, None
