"""A model's numbers, from its configuration: counted on torch's meta device and rehearsed, never loaded."""

from __future__ import annotations

import torch

from grandrounds.algorithm.moments import moment_bytes
from grandrounds.kernels.packed_weights import packed_bytes
from grandrounds.planning.need import Shape, Work
from grandrounds.planning.rehearsal import token_costs
from grandrounds.policy.limits import context_length
from grandrounds.policy.load import configuration, recomputed
from grandrounds.policy.outline import parameter_bytes, weightless
from grandrounds.policy.quantize import saved_bytes
from grandrounds.recipe import PolicyRecipe
from grandrounds.sampling.batch import bytes_per_token


def model_shape(recipe: PolicyRecipe, dtype: torch.dtype, vocabulary: int, work: Work) -> Shape:
    """The shape of the model that a recipe names, for this work; `vocabulary` is that of a scratch model.

    Raises PolicyError for a model that is missing, cannot be read, or cannot be rehearsed.
    """
    config = configuration(recipe, vocabulary)
    text = config.get_text_config()
    model, base = weightless(recipe, config, dtype)
    total, trained = parameter_bytes(model)
    moments = (moment_bytes(p, eight_bits=work.eight_bits) for p in model.parameters() if p.requires_grad)
    saved, unpacked = saved_bytes(base) if recipe.quantize == "4bit" else (0, 0)
    adapters = trained if model is not base else 0
    group = (work.prompt_tokens, work.group_size, work.new_tokens)
    costs = token_costs(recipe, config, dtype, group)
    return Shape(
        weights=total - adapters - saved,
        unpacked=unpacked,
        adapters=adapters,
        trained=trained,
        moments=sum(moments),
        element=dtype.itemsize,
        vocabulary=text.vocab_size,
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        query_heads=text.num_attention_heads,
        context=context_length(text),
        copies=packed_bytes(base),
        store=bytes_per_token(config, dtype.itemsize),
        kept=costs.kept,
        passing=costs.passing,
        prefill=costs.prefill,
        fixed=costs.fixed,
        recompute=recomputed(recipe),
    )
