"""Attention by layout: the one place where Grand Rounds reaches into a transformers model.

All our forward passes run a model over one flat row of tokens, [1, S], with explicit positions. Which of those
tokens see one another is decided by the `Layout` in force: a tree of prompts and completions in training, a
key-value store in sampling. transformers calls the function registered here from every attention layer, so no
model file is forked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor

from grandrounds.errors import PolicyError

ATTENTION = "grandrounds"


class Layout(Protocol):
    """Which tokens of a flat row see one another, and how that is computed."""

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, Hq, S, D]
        key: Tensor,  # [1, Hkv, S, D], position embedding already applied
        value: Tensor,  # [1, Hkv, S, D]
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:  # [1, S, Hq, D]
        """Attention output of one layer. A token at position p sees positions > p - window only."""
        ...


_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def seen_through(layout: Layout) -> Iterator[None]:
    """Within the block, every model loaded with `attn_implementation=ATTENTION` attends by `layout`."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def current_layout() -> Layout | None:
    """The layout in force; None where a model runs through transformers' own attention."""
    return _layout.get()


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature, handed on to the layout in force."""
    layout = _layout.get()
    if layout is None:
        raise PolicyError(
            "the model was called without a layout",
            hint="Call it through grandrounds, or load it with transformers' own attention.",
        )
    if unused.get("s_aux") is not None:
        raise PolicyError("attention sinks (gpt-oss) are not supported", hint="Choose another model family.")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = layout.attend(
        int(module.layer_idx),  # type: ignore[arg-type]
        query,
        key,
        value,
        scale=scale,
        window=sliding_window,
        softcap=softcap,
    )
    return output, None


def register() -> None:
    """Make `ATTENTION` known to transformers; called once when a policy is loaded."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)
