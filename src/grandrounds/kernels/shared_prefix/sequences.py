"""Tree attention one sequence after another: on a CPU with windows and softcaps, and without FlexAttention elsewhere.

Shapes: S rows of a tree, N prompts, M completions; H query heads, K key-value heads, D numbers per head.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from torch import Tensor

from grandrounds.kernels.attention import AttentionRule, causal_attention
from grandrounds.kernels.shared_prefix.tree import TokenTree


def attend_by_sequence(
    query: Tensor,  # [1, H, S, D]
    key: Tensor,  # [1, K, S, D]
    value: Tensor,  # [1, K, S, D]
    tree: TokenTree,
    rule: AttentionRule,
) -> Tensor:  # [1, S, H, D]
    """Each prompt attends to itself. Each completion attends to its prompt's keys and its own, concatenated."""
    starts = np.sort(np.concatenate([tree.prompt_starts, tree.starts]))
    sizes = np.diff(starts, append=tree.size).tolist()
    # Split in one call: the gradient of each single slice would be as long as the row.
    sequences = zip(*(states.split(sizes, 2) for states in (query, key, value)), strict=True)
    out = []
    for completions in np.bincount(tree.parent):
        own_query, prompt_key, prompt_value = next(sequences)
        out.append(causal_attention(own_query, prompt_key, prompt_value, rule))
        for own_query, own_key, own_value in islice(sequences, completions):
            keys, values = torch.cat([prompt_key, own_key], 2), torch.cat([prompt_value, own_value], 2)
            out.append(causal_attention(own_query, keys, values, rule))
    return torch.cat(out, 2).transpose(1, 2)
