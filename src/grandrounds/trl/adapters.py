"""A LoraConfig of PEFT as keys of the recipe. What would change the adapter and cannot be done is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grandrounds.errors import RecipeError

# What an adapter is trained with anyway, or what does not concern training.
TAKEN = {"r", "lora_alpha", "target_modules", "peft_type", "auto_mapping", "peft_version", "task_type"}
WITHOUT_EFFECT = {"base_model_name_or_path", "revision", "inference_mode", "runtime_config", "lora_dropout"}


def adapter_keys(config: Any, model_type: Callable[[], str]) -> tuple[dict[str, Any], list[str]]:
    """(recipe key -> value, lines on what differs) of a LoraConfig. RecipeError for another kind or option.

    model_type: the architecture's name, by which PEFT chooses modules where the config names none.
    """
    from peft import LoraConfig
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_MODULES

    if not isinstance(config, LoraConfig):
        raise RecipeError(
            f"{type(config).__name__} is no LoraConfig",
            where="peft_config",
            hint="LoRA is the one adapter here.",
        )
    usual = LoraConfig().to_dict()
    for name, value in config.to_dict().items():
        if name not in TAKEN | WITHOUT_EFFECT and value != usual.get(name):
            raise RecipeError(
                f"`{name}` cannot be set here",
                where=f"peft_config, LoraConfig({name}={value!r:.40})",
                hint="Leave it out: r, lora_alpha and target_modules are what can be set.",
            )
    targets: Any = config.target_modules
    if targets is None and (targets := USUAL_MODULES.get(model_type())) is None:
        raise RecipeError(
            "it names no modules, and PEFT knows none for this model",
            where="peft_config.target_modules",
            hint="Name them, or say all-linear.",
        )
    if isinstance(targets, str) and targets != "all-linear":
        raise RecipeError(
            "modules are named one by one, not by a pattern",
            where="peft_config.target_modules",
            hint="Give a list of names, or all-linear.",
        )
    dropout = [f"lora_dropout={config.lora_dropout:g}: dropout is always off."] if config.lora_dropout else []
    return {
        "policy.adapter": "lora",
        "policy.lora_rank": config.r,
        "policy.lora_alpha": config.lora_alpha,
        "policy.lora_targets": targets if isinstance(targets, str) else sorted(targets),
    }, dropout
