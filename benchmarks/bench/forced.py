"""Completions of given lengths, or given ones, from transformers' `generate`: the counterpart of `bench.schedule`."""

from __future__ import annotations

import numpy as np
import torch
from transformers import LogitsProcessor

from bench.workloads import END


class ForcedEnds(LogitsProcessor):
    """Forces the end token where a row's completion is to end, and forbids it before."""

    def __init__(self, ends: np.ndarray, prompt: int) -> None:
        self._ends, self._prompt = torch.from_numpy(ends.ravel()), prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V] of the next token behind `input_ids` [B, prompt and what was sampled]; changed in place."""
        self._ends = self._ends.to(scores.device)
        ending = (self._ends == input_ids.shape[1] - self._prompt + 1).nonzero()[:, 0]
        scores[:, END] = -torch.inf
        scores[ending] = -torch.inf
        scores[ending, END] = 0.0
        return scores


class GivenTokens(LogitsProcessor):
    """Leaves no choice: every token is the given one."""

    def __init__(self, tokens: np.ndarray, prompt: int) -> None:
        self._tokens, self._prompt = torch.from_numpy(tokens), prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As `ForcedEnds`."""
        tokens = self._tokens[:, input_ids.shape[1] - self._prompt, None].to(scores.device)
        return scores.fill_(-torch.inf).scatter_(1, tokens, 0.0)
