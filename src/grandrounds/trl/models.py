"""The model and the tokenizer that a script passes: as names in the recipe where they can be, else as objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import PolicyError
from grandrounds.policy.chat import PLAIN_TEMPLATE
from grandrounds.policy.load import load_tokenizer
from grandrounds.recipe import PolicyRecipe

# Prompts by which two tokenizers are compared.
COMPARED = 20


@dataclass(frozen=True)
class GivenModel:
    """name: the model's folder or Hub name, or "". objects: model and tokenizer in memory, or None."""

    name: str
    objects: tuple[Any, Any] | None
    tokenizer: Any


def given_model(model: Any, tokenizer: Any, texts: Sequence[str], trust: bool, dtype: str) -> GivenModel:
    """What to train. PolicyError for a model that has an adapter, or for a processor of images.

    A name stays a name, so that the run can be evaluated and resumed without the script; unless the script's tokenizer
    is not that model's own. texts: by which that is found out.
    """
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

    if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise PolicyError(
            f"{type(tokenizer).__name__} is no tokenizer",
            where="processing_class",
            hint="Only text can be trained on.",
        )
    if hasattr(model, "peft_config"):
        raise PolicyError(
            "the model has an adapter already",
            where="model",
            hint="Pass the model without it and peft_config=LoraConfig(…), or the folder of the saved adapter.",
        )
    name = model if isinstance(model, str) else str(getattr(model, "name_or_path", ""))
    if not name and tokenizer is None:
        raise PolicyError(
            "the model does not say where its tokenizer is",
            where="model",
            hint="Pass processing_class=tokenizer.",
        )
    own = None
    if tokenizer is None or isinstance(model, str):
        own = load_tokenizer(PolicyRecipe(model=name, trust_remote_code=trust))
    if not isinstance(model, str):
        return GivenModel("", (model, tokenizer or own), tokenizer or own)
    if tokenizer is None or _same(own, tokenizer, texts):
        return GivenModel(name, None, own)
    loaded = AutoModelForCausalLM.from_pretrained(
        name, dtype="float32" if dtype == "auto" else dtype, trust_remote_code=trust
    )
    return GivenModel(name, (loaded, tokenizer), tokenizer)


def _same(own: Any, given: Any, texts: Sequence[str]) -> bool:
    """Whether two tokenizers write and end the same prompts."""

    def seen(tokenizer: Any) -> Any:
        encoded = [tokenizer(text)["input_ids"] for text in texts[:COMPARED]]
        template = tokenizer.chat_template or PLAIN_TEMPLATE
        return len(tokenizer), template, tokenizer.eos_token_id, encoded

    return bool(seen(own) == seen(given))
