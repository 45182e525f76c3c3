"""A saved adapter merged into its model's weights, as a model on which a new adapter is trained."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from grandrounds.policy.cache import made_once

ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@cache
def merged(folder: Path, base: str, tokenizer: str) -> Path:
    """The folder with the merged model, made where it is not there yet.

    folder: the adapter's. base: its model. tokenizer: where its tokenizer is.
    """

    def make(making: Path) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        adapted: Any = PeftModel.from_pretrained(model, str(folder))
        adapted.merge_and_unload().save_pretrained(making)
        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(making)

    return made_once(f"{folder.name}-merged", folder / WEIGHTS, f"Merging the adapter {folder.name}", make)
