"""Attention over a tree of prompts and completions, by the way that suits device and model.

Shapes as in `policy.tree`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grandrounds.policy import flex
from grandrounds.policy.padded import PaddedAttention
from grandrounds.policy.shared_prefix import tree_attention
from grandrounds.policy.tree import TokenTree


def sight(tree: TokenTree, window: int | None) -> flex.Sight:
    """What each row sees: its own sequence up to itself, and behind a prompt the prompt; `window` rows back at most."""
    own, first, last = np.zeros((3, tree.size), np.int32)
    for start, length in zip(tree.prompt_starts, tree.prompt_lengths, strict=True):
        own[start : start + length] = start
    for start, length, prompt in zip(tree.starts, tree.lengths, tree.parent, strict=True):
        own[start : start + length] = start
        first[start : start + length] = tree.prompt_starts[prompt]
        last[start : start + length] = tree.prompt_starts[prompt] + tree.prompt_lengths[prompt]
    if window is not None:
        rows = np.arange(tree.size, dtype=np.int32)
        hidden = np.maximum(rows - own + last - first - window + 1, 0)  # positions too far back
        own, first = np.maximum(own, rows - window + 1), first + hidden
    bounds = torch.from_numpy(np.stack([own, first, last])).to(tree.tokens.device)
    return flex.Sight(*bounds)


class TreeLayout:
    """Attention over a `TokenTree`.

    On a CUDA device over blocks of the row (`flex`), on a CPU in parts of it (`shared_prefix`). With a window or
    softcap on a CPU, on any other device, and where FlexAttention does not compile, padded (`padded`).
    """

    def __init__(self, tree: TokenTree) -> None:
        self.tree = tree
        self._reach = int(tree.prompt_lengths.max() + tree.lengths.max())  # at least the longest sequence
        self._padded = PaddedAttention(tree)
        self._block_masks: dict[int | None, flex.BlockMask] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, H, S, D]
        key: Tensor,  # [1, K, S, D]
        value: Tensor,  # [1, K, S, D]
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:  # [1, S, H, D]
        """See `policy.attention.Layout`."""
        if window is not None and window >= self._reach:
            window = None
        if flex.serves(query, key, scale, softcap):
            if window not in self._block_masks:
                self._block_masks[window] = flex.block_mask(sight(self.tree, window))
            return flex.attend(query, key, value, self._block_masks[window], scale, softcap)
        if window is None and softcap is None and query.device.type == "cpu":
            rows_q, rows_k, rows_v = (states[0].transpose(0, 1) for states in (query, key, value))
            return tree_attention(rows_q, rows_k, rows_v, self.tree.families, scale)[None]
        return self._padded.attend(query, key, value, scale, window, softcap)
