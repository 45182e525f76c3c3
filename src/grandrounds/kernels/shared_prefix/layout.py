"""Attention over a tree of prompts and completions, by the kernel that suits the device and the model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix import cuda
from grandrounds.kernels.shared_prefix.cpu import groups_of, tree_attention
from grandrounds.kernels.shared_prefix.sequences import attend_by_sequence
from grandrounds.kernels.shared_prefix.tree import TokenTree


def visible_rows(tree: TokenTree, window: int | None) -> cuda.VisibleRows:
    """Each row sees its own sequence up to itself, and a completion's row its prompt; at most `window` rows back."""
    own, first, last = np.zeros((3, tree.size), np.int32)
    for start, length in zip(tree.prompt_starts, tree.prompt_lengths, strict=True):
        own[start : start + length] = start
    for start, length, prompt in zip(tree.starts, tree.lengths, tree.parent, strict=True):
        own[start : start + length] = start
        first[start : start + length] = tree.prompt_starts[prompt]
        last[start : start + length] = tree.prompt_starts[prompt] + tree.prompt_lengths[prompt]
    if window is not None:
        rows = np.arange(tree.size, dtype=np.int32)
        hidden = np.maximum(rows - own + last - first - window + 1, 0)  # prompt positions outside the window
        own, first = np.maximum(own, rows - window + 1), first + hidden
    bounds = torch.from_numpy(np.stack([own, first, last])).to(tree.tokens.device)
    return cuda.VisibleRows(*bounds)


class TreeLayout:
    """Attention over a `TokenTree`.

    A CUDA device attends over blocks of the row (`cuda`), a CPU over contiguous parts of it (`cpu`). Attention goes
    one sequence after another (`sequences`) on a CPU with a window or softcap, on any other device, and where
    FlexAttention does not compile.
    """

    def __init__(self, tree: TokenTree) -> None:
        self.tree = tree
        self._reach = int(tree.prompt_lengths.max() + tree.lengths.max())  # at least the longest sequence
        self._groups = groups_of(tree)
        self._block_masks: dict[int | None, cuda.BlockMask] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, H, S, D]
        key: Tensor,  # [1, K, S, D]
        value: Tensor,  # [1, K, S, D]
        rule: AttentionRule,
    ) -> Tensor:  # [1, S, H, D]
        """See `kernels.attention.Layout`."""
        scale, window, softcap = rule
        if window is not None and window >= self._reach:
            window = None
        if cuda.serves(query, key, scale, softcap):
            if window not in self._block_masks:
                self._block_masks[window] = cuda.block_mask(visible_rows(self.tree, window))
            return cuda.attend(query, key, value, self._block_masks[window], scale, softcap)
        if window is None and softcap is None and query.device.type == "cpu":
            rows_q, rows_k, rows_v = (states[0].transpose(0, 1) for states in (query, key, value))
            return tree_attention(rows_q, rows_k, rows_v, self._groups, scale)[None]
        return attend_by_sequence(query, key, value, self.tree, AttentionRule(scale, window, softcap))
