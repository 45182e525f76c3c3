"""What is known of a policy whose weights another library loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grandrounds.errors import PolicyError
from grandrounds.policy.limits import context_length, response_ends
from grandrounds.policy.load import configuration, load_tokenizer, loading, sources, without_adapter
from grandrounds.recipe import PolicyRecipe


@dataclass(frozen=True)
class Unloaded:
    """A policy without its weights.

    model: the folder or Hub name of the whole model; an adapter is merged into its base, which is done once and kept
    in the user's cache. config: its transformers configuration. eos_ids, max_positions: as `Policy` has them.
    """

    model: str
    config: Any
    tokenizer: Any
    eos_ids: frozenset[int]
    max_positions: int


def unloaded(recipe: PolicyRecipe) -> Unloaded:
    """The policy that a recipe names, all but its weights. PolicyError for one that is missing or that is kept in 4
    bits."""
    if recipe.quantize == "4bit":
        raise PolicyError(
            "the policy was trained on a base in 4 bits, from which other libraries load other numbers",
            where="policy.quantize",
            hint="Write the whole model by `grandrounds export RUN --to merged`, and name its folder.",
        )
    from transformers import GenerationConfig

    recipe = without_adapter(recipe)
    tokenizer, (_, source) = load_tokenizer(recipe), sources(recipe)
    config = configuration(recipe, len(tokenizer))
    try:
        generation = GenerationConfig.from_pretrained(source)
    except OSError:  # it has none
        generation = None
    with loading(source):
        ends, _ = response_ends(config, generation, tokenizer)
    return Unloaded(source, config, tokenizer, ends, context_length(config.get_text_config()))
