"""Tree attention on a CPU in two parts, merged exactly: each sequence on itself, and all completions on their prompt.

Let o and l be the output and log-sum-exp of a softmax over one part's keys. The softmax over both parts' keys is

    l = log(exp l_1 + exp l_2),   o = exp(l_1 - l) o_1 + exp(l_2 - l) o_2

Its gradient through part i is the gradient of that part's own kernel, given the merged o and l: the kernel recomputes
its probabilities as exp(score - l). The completions of a prompt are one block of queries on one copy of its keys,
whatever their lengths. The causal parts skip the keys that a mask would hide.

Every part is a contiguous run of rows, so nothing is gathered, copied or padded. Shapes: S rows, H query heads, K
key-value heads, D numbers per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grandrounds.kernels.shared_prefix.tree import TokenTree

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class SequenceRun:
    """Contiguous rows that hold sequences of one length, one after another."""

    rows: slice
    length: int

    def of(self, states: Tensor) -> Tensor:
        """The run's rows of states [S, ·, D] as a batch [sequences, ·, length, D]; a view."""
        return states[self.rows].unflatten(0, (-1, self.length)).transpose(1, 2)

    def into(self, states: Tensor) -> Tensor:
        """A batch [sequences, ·, length, D] as rows again, [rows, ·, D]."""
        return states.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class TreeGroup:
    """A prompt and its completions, which follow it: as runs of one length, and joined as if they were one sequence."""

    prompt: SequenceRun
    completions: tuple[SequenceRun, ...]
    joined: SequenceRun


def groups_of(tree: TokenTree) -> list[TreeGroup]:
    """The prompts of a tree with their completions, in the tree's order."""
    groups, completion = [], 0
    for start, size, count in zip(
        tree.prompt_starts.tolist(), tree.prompt_lengths.tolist(), np.bincount(tree.parent), strict=True
    ):
        row, runs = start + size, []
        for length, alike in groupby(tree.lengths[completion : completion + count].tolist()):
            rows = length * len(list(alike))
            runs.append(SequenceRun(slice(row, row + rows), length))
            row += rows
        joined = SequenceRun(slice(start + size, row), row - start - size)
        groups.append(TreeGroup(SequenceRun(slice(start, start + size), size), tuple(runs), joined))
        completion += count
    return groups


def tree_attention(
    query: Tensor,  # [S, H, D]
    key: Tensor,  # [S, K, D]
    value: Tensor,  # [S, K, D]
    groups: Sequence[TreeGroup],
    scale: float,
) -> Tensor:  # [S, H, D]
    """Each token sees its own sequence up to itself. A completion token also sees its whole prompt. CPU only."""
    return _TreeAttention.apply(query, key, value, groups, scale)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, groups: Sequence[TreeGroup], scale: float
    ) -> Tensor:
        out = query.new_empty(query.shape)
        log = query.new_empty(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
        for group in groups:
            for run in (group.prompt, *group.completions):
                own, own_log = _forward(
                    run.of(query), run.of(key), run.of(value), is_causal=True, scale=scale
                )
                out[run.rows], log[run.rows] = run.into(own), run.into(own_log)
            joined, prompt = group.joined, group.prompt
            outer, outer_log = _forward(joined.of(query), prompt.of(key), prompt.of(value), scale=scale)
            outer, outer_log = joined.into(outer), joined.into(outer_log)
            share = torch.sigmoid(outer_log - log[joined.rows])[..., None]  # exp(l_1 - l)
            out[joined.rows].lerp_(outer, share.to(out.dtype))
            torch.logaddexp(log[joined.rows], outer_log, out=log[joined.rows])
        ctx.save_for_backward(query, key, value, out, log)
        ctx.groups, ctx.scale = groups, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *states, log = ctx.saved_tensors
        # In bfloat16 the kernel takes twice the time for short sequences, and rounds its sums in between.
        query, key, value, out = (tensor.to(log.dtype) for tensor in states)
        gradient = gradients[0].to(log.dtype).contiguous()

        def part(seeing: SequenceRun, seen: SequenceRun, causal: bool) -> tuple[Tensor, ...]:
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
        for group in ctx.groups:
            for run in (group.prompt, *group.completions):
                to_query[run.rows], to_key[run.rows], to_value[run.rows] = part(run, run, True)
            outer = part(group.joined, group.prompt, False)
            to_query[group.joined.rows] += outer[0]
            to_key[group.prompt.rows] += outer[1]
            to_value[group.prompt.rows] += outer[2]
        dtype = states[0].dtype
        return to_query.to(dtype), to_key.to(dtype), to_value.to(dtype), None, None
