"""A saved adapter merged into its model's weights, as a model on which a new adapter is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grandrounds.policy.cache import digest, made_once

ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


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

    name, doing = f"{folder.name}-merged", f"Merging the adapter {folder.name}"
    return made_once(name, _origin(folder, base, tokenizer), doing, make)


def _origin(folder: Path, base: str, tokenizer: str) -> str:
    """All that the merged model follows from. The same adapter may lie on another base: one that was never trained
    does nothing, and has the same weights for all models of a shape.

    Of a base that lies here, its files' sizes and times: to read them all takes long.
    """
    own = [digest(folder / name) for name in (WEIGHTS, ADAPTER_CONFIG)]
    files = sorted(Path(base).glob("*.*")) if Path(base).is_dir() else []
    there = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return repr((own, base, there, tokenizer))
