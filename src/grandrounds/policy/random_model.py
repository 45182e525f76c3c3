"""Models with random weights, built from a configuration alone: whole on torch's meta device, or small and real.

On the meta device parameters have shapes and take no memory.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from math import gcd
from typing import Any

import torch

from grandrounds.kernels import attention
from grandrounds.policy.load import SCRATCH, loading, recomputed, sources, with_adapter
from grandrounds.policy.model import Policy
from grandrounds.policy.quantize import stand_in
from grandrounds.recipe import PolicyRecipe

# Size of a shallow model's vocabulary, whose tokens have no meaning.
FEW_WORDS = 8
# Layers are made no narrower than this: in narrower ones norms and LoRA's small matrices dominate the activations.
NARROWEST = 256


def random_model(
    recipe: PolicyRecipe, config: Any, dtype: torch.dtype, device: torch.device | str = "meta"
) -> tuple[Any, Any]:
    """(model, the causal LM in it) as `load_policy` makes them, with the adapter, but with random weights."""
    from transformers import AutoModelForCausalLM

    attention.register()
    with torch.device(device), loading(recipe.model), warnings.catch_warnings():
        # The warnings are about weights copied into meta parameters, which hold no data.
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


def random_policy(recipe: PolicyRecipe, config: Any, dtype: torch.dtype, device: torch.device) -> Policy:
    """A policy around `random_model`, without a tokenizer. It can compute, but it cannot be sampled from."""
    model, base = random_model(recipe, config, dtype, device)
    return Policy(
        model=model,
        base=base,
        tokenizer=None,
        device=device,
        eos_ids=frozenset(),
        end_id=0,
        max_positions=0,
        adapter=model is not base,
        description="",
        recompute=recomputed(recipe),
        kernels=recipe.kernels,
    )


def with_new_adapter(recipe: PolicyRecipe) -> PolicyRecipe:
    """The recipe with a new adapter like the saved one that it names, which would not fit a smaller model.

    A recipe that names no saved adapter is returned as it is.
    """
    if recipe.model == SCRATCH or len(set(sources(recipe))) == 1:
        return recipe
    from peft import PeftConfig

    folder, base = sources(recipe)
    with loading(folder):
        saved: Any = PeftConfig.from_pretrained(folder)
    targets = saved.target_modules
    changes = {
        "model": base,
        "adapter": "lora",
        "lora_rank": saved.r,
        "lora_targets": targets if isinstance(targets, str) else sorted(targets),
    }
    return recipe.model_copy(update=changes)


def shallow(config: Any, kinds: Sequence[str | None]) -> tuple[Any, int]:
    """(a small copy of the configuration, how many times narrower it is). The copy has one layer of each given kind,
    almost no vocabulary, and is as narrow as its heads and NARROWEST allow."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = len(kinds)
    if getattr(text, "layer_types", None):
        text.layer_types = list(kinds)
    text.vocab_size, text.pad_token_id = FEW_WORDS, None
    times, heads = 1, text.num_attention_heads
    while heads % (2 * times) == 0 and text.hidden_size >= 2 * times * NARROWEST:
        times *= 2
    text.hidden_size, text.intermediate_size = text.hidden_size // times, text.intermediate_size // times
    text.num_attention_heads = heads // times
    if getattr(text, "num_key_value_heads", None):
        text.num_key_value_heads = gcd(heads // times, max(1, text.num_key_value_heads // times))
    return config, times


def layer_kinds(config: Any) -> list[str | None]:
    """The kind of each layer in the configuration: "full_attention", "sliding_attention", or None if not given."""
    text = config.get_text_config()
    return list(getattr(text, "layer_types", None) or [None] * text.num_hidden_layers)


def parameter_bytes(model: Any) -> tuple[int, int]:
    """(bytes of all parameters, of those that are trained)."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
