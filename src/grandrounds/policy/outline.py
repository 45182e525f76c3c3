"""A policy on torch's meta device, where parameters have shapes and take no memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from grandrounds.kernels import attention
from grandrounds.policy.load import loading, with_adapter
from grandrounds.policy.quantize import stand_in
from grandrounds.recipe import PolicyRecipe

# A word or two: no rehearsal asks what the tokens are.
FEW_WORDS = 8


def weightless(recipe: PolicyRecipe, config: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    """(model, the causal LM in it) as `load_policy` makes them, adapter included, on the meta device."""
    from transformers import AutoModelForCausalLM

    attention.register()
    with torch.device("meta"), loading(recipe.model), warnings.catch_warnings():
        # Of weights that are copied into parameters that hold none.
        warnings.filterwarnings("ignore", message=".*meta", category=UserWarning)
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation=attention.ATTENTION,
            trust_remote_code=recipe.trust_remote_code,
        ).eval()
        if recipe.quantize == "4bit":
            stand_in(model)
        return with_adapter(model, recipe)


def shallow(config: Any, kinds: Sequence[str | None]) -> Any:
    """A copy of the configuration with as many layers as there are kinds, and hardly any vocabulary."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = len(kinds)
    if getattr(text, "layer_types", None):
        text.layer_types = list(kinds)
    text.vocab_size, text.pad_token_id = FEW_WORDS, None
    return config


def layer_kinds(config: Any) -> list[str | None]:
    """What distinguishes each layer, as the configuration says it: "full_attention", "sliding_attention", or None."""
    text = config.get_text_config()
    return list(getattr(text, "layer_types", None) or [None] * text.num_hidden_layers)


def parameter_bytes(model: Any) -> tuple[int, int]:
    """(bytes of all parameters, of those that are trained)."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
