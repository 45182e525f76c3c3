"""The policy: a causal language model of transformers and its tokenizer, with access to states, head and reference."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from grandrounds.kernels import install, packed
from grandrounds.kernels.attention import Layout, attention_of, seen_through
from grandrounds.policy.recompute import ASIDE, recompute_layers
from grandrounds.recipe import KernelsRecipe

Recompute = Literal["nothing", "feed_forward", "layers", "offload"]


@dataclass(frozen=True)
class Head:
    """The output head, from hidden state to logits: softcap · tanh((W h + b) / softcap), or plain W h + b."""

    weight: Tensor  # [V, d]
    bias: Tensor | None  # [V]
    softcap: float | None


@dataclass
class Policy:
    """A language model that is sampled from and trained with one set of weights.

    It is always in evaluation mode: with dropout, sampler and learner would disagree about the same tokens.

    model: a causal LM, or a PEFT model around one. base: the causal LM itself, with its adapter layers.
    eos_ids: every token that ends a response. end_id: the token that ends a demonstration.
    max_positions: the model's context, in tokens.
    adapter: whether LoRA is trained rather than all weights. description: one line for the user.
    recompute: the modules that keep only their input, and are recomputed in the backward pass. `offload` recomputes
    layers and keeps their inputs in the computer's memory.
    kernels: the kernels that are on. Without `shared_prefix` the model uses its own attention, and `hidden` cannot be
    called.
    """

    model: Any
    base: Any
    tokenizer: Any
    device: torch.device
    eos_ids: frozenset[int]
    end_id: int
    max_positions: int
    adapter: bool
    description: str
    recompute: Recompute = "nothing"
    kernels: KernelsRecipe = field(default_factory=KernelsRecipe)
    _frozen: nn.Module | None = field(default=None, repr=False)
    _reference_in_force: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self._attend(shared_prefix=self.kernels.shared_prefix)
        install(
            self.base,
            fused=self.kernels.fused,
            packed_weights=self.kernels.packed_weights,
            keep_inner=self.recompute != "feed_forward",
        )
        if self.recompute in ASIDE:
            recompute_layers(self.base, ASIDE[self.recompute])

    @property
    def precision(self) -> str:
        """The type that the policy computes in, by its name in recipes."""
        return str(self.head().weight.dtype).removeprefix("torch.")

    @property
    def _causal_lm(self) -> Any:
        return self._frozen if self._reference_in_force and self._frozen is not None else self.base

    def hidden(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """States after the final norm, [S, d], of one flat row of tokens [1, S] at positions [1, S]."""
        decoder = self._causal_lm.get_decoder()
        with seen_through(layout):
            output = decoder(input_ids=tokens, position_ids=positions, use_cache=False)
        return output.last_hidden_state[0]

    def padded_hidden(self, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """States after the final norm, [B, L, d], of padded tokens [B, L], by transformers' own attention.

        mask: [B, K], 1 at real tokens; the tokens are the last L of K. cache: a KV cache of transformers that holds the
        tokens before these; these are added to it.
        """
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        output = self._causal_lm.get_decoder()(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state

    def packed(self) -> AbstractContextManager[None]:
        """Within the block, linear layers multiply by packed weights, for sampling. The weights must not change."""
        return packed(self.base) if self.kernels.packed_weights else nullcontext()

    def head(self) -> Head:
        """The output embedding, tied or not."""
        model = self._causal_lm
        layer = model.get_output_embeddings()
        softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        return Head(layer.weight, getattr(layer, "bias", None), softcap)

    def logits(self, states: Tensor) -> Tensor:
        """The logits [B, V] of states [B, d]."""
        layer, softcap = self._causal_lm.get_output_embeddings(), self.head().softcap
        logits = layer(states.to(layer.weight.dtype))
        return logits if softcap is None else torch.tanh(logits / softcap) * softcap

    @contextmanager
    def own_attention(self) -> Iterator[None]:
        """Within the block the model uses transformers' own attention, for `generate` and for direct calls."""
        self._attend(shared_prefix=False)
        try:
            yield
        finally:
            self._attend(shared_prefix=self.kernels.shared_prefix)

    def _attend(self, *, shared_prefix: bool) -> None:
        self.base.set_attn_implementation(attention_of(self.base.config, shared_prefix))

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within the block the policy computes as the reference: without its adapter, or by the frozen copy."""
        self._reference_in_force = True
        try:
            if self.adapter:
                with self.model.disable_adapter():
                    yield
            else:
                self.freeze_reference()
                yield
        finally:
            self._reference_in_force = False

    def freeze_reference(self) -> None:
        """Keep a copy of the present policy as the reference, unless there is one. With an adapter none is needed."""
        if self._frozen is None and not self.adapter:
            self._frozen = copy.deepcopy(self.base).requires_grad_(False)

    def set_reference(self, model: nn.Module) -> None:
        """Make another model the reference. A resumed run gives the policy as it was when the run began."""
        self._frozen = model.requires_grad_(False)

    def encode_response(self, text: str) -> np.ndarray:
        """Tokens of a demonstrated response with the end token, int64 [T]."""
        tokens = self.tokenizer.encode(text, add_special_tokens=False)
        return np.asarray([*tokens, self.end_id], dtype=np.int64)
