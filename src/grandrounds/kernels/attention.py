"""Attention by layout: the one place where Grand Rounds hooks into a transformers model.

With `policy.kernels.shared_prefix`, forward passes run a model over one flat row of tokens, [1, S], with explicit
positions. The active `Layout` decides which of those tokens see one another: a tree of prompts and completions in
training, a KV cache in sampling. transformers calls the function registered here from every attention layer, so no
model file is forked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from grandrounds.errors import PolicyError

ATTENTION = "grandrounds"


class AttentionRule(NamedTuple):
    """How a query scores keys: scale · q k, or with a softcap softcap · tanh(scale · q k / softcap).

    window: a token at position p sees only positions > p - window.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


class Layout(Protocol):
    """Which tokens of a flat row see one another, and how their attention is computed."""

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, Hq, S, D]
        key: Tensor,  # [1, Hkv, S, D], position embedding already applied
        value: Tensor,  # [1, Hkv, S, D]
        rule: AttentionRule,
    ) -> Tensor:  # [1, S, Hq, D]
        """Attention output of one layer."""
        ...


_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def seen_through(layout: Layout | None) -> Iterator[None]:
    """Within the block, every model loaded with `attn_implementation=ATTENTION` attends by `layout`."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def current_layout() -> Layout | None:
    """The active layout. None where a model runs through transformers' own attention."""
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
    """Has transformers' attention signature; passes the call on to the active layout."""
    layout = _layout.get()
    if layout is None:
        raise PolicyError(
            "the model was called without a layout",
            hint="Call it through grandrounds, or load it with transformers' own attention.",
        )
    if unused.get("s_aux") is not None:
        raise PolicyError("attention sinks (gpt-oss) are not supported", hint="Choose another model family.")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    number = int(module.layer_idx)  # type: ignore[arg-type]
    return layout.attend(number, query, key, value, AttentionRule(scale, sliding_window, softcap)), None


def register() -> None:
    """Register `ATTENTION` with transformers. Called once when a policy is loaded."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)


def attention_of(config: Any, shared_prefix: bool) -> str:
    """The `attn_implementation` of a model: ours, or the fastest of transformers' that computes the model exactly."""
    if shared_prefix:
        return ATTENTION
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) else "sdpa"


def causal_attention(
    query: Tensor,  # [B, H, Q, D], the last Q of the L tokens
    key: Tensor,  # [B, K, L, D]
    value: Tensor,  # [B, K, L, D]
    rule: AttentionRule,
) -> Tensor:  # [B, H, Q, D]
    """Causal attention: each query sees its own key and those before it, at most `window` keys in all."""
    (scale, window, softcap), queries, keys = rule, query.shape[2], key.shape[2]
    if window is not None and window >= keys:
        window = None
    plain = window is None and queries == keys
    mask = None if plain else _visible(queries, keys, window, query.device)
    if softcap is None:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=plain,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    repeats = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(repeats, 1).mT * scale
    scores = softcap * torch.tanh(scores / softcap)
    mask = _visible(queries, keys, window, query.device) if mask is None else mask
    scores = scores.masked_fill(~mask, -torch.inf)
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, -1, dtype=precise).to(scores.dtype)
    return weights @ value.repeat_interleave(repeats, 1)


def _visible(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """The causal mask, [Q, L] bool. The queries belong to the last Q of the L keys."""
    places = torch.arange(keys, device=device)
    distance = places[keys - queries :, None] - places
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)
