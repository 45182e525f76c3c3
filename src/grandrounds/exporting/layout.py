"""The files of each export in the Hub's layout, and how transformers and PEFT alone load them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from grandrounds.exporting.chosen import Chosen
from grandrounds.policy.load import loading, sources
from grandrounds.policy.merged import ADAPTER_CONFIG
from grandrounds.policy.model import Policy
from grandrounds.policy.quantize import packing
from grandrounds.recipe import Recipe
from grandrounds.training.checkpoint import MANIFEST, OPTIMIZER, STATE
from grandrounds.training.setup import saved_policy

OURS = (
    MANIFEST,
    OPTIMIZER,
    STATE,
    "README.md",
)  # of a checkpoint, what is for resuming alone; and PEFT's empty card
# What is merged and compared in, whatever the run was trained in: no rounding hides a difference.
COMPUTED = torch.float32
WEIGHTS = ("adapter_*", "*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True)
class Source:
    """What exports are made of, once the policy is no longer in memory.

    base: the folder or Hub name of an adapter's model; "" without an adapter. written: the type of a whole model's
    weights. rounded: whether they lose digits in it. generation: generation_config.json.
    """

    chosen: Chosen
    base: str
    written: torch.dtype
    rounded: bool
    device: torch.device
    end_ids: frozenset[int]
    generation: dict[str, Any]

    @classmethod
    def of(cls, chosen: Chosen, policy: Policy, *, bfloat16: bool) -> Source:
        """As the policy in memory is. Weights are written in the precision that they are known in, or rounded."""
        base = sources(saved_policy(chosen.recipe, chosen.path))[1] if chosen.has_adapter else ""
        known = COMPUTED if chosen.has_adapter else getattr(torch, chosen.trained_in)
        written = torch.bfloat16 if bfloat16 else known
        ends = policy.eos_ids
        return cls(
            chosen, base, written, written != known, policy.device, ends, generation_of(policy, chosen.recipe)
        )

    def base_model(self) -> Any:
        """The adapter's model, by transformers; with its weights in 4 bits where the run had them so."""
        recipe = self.chosen.recipe.policy
        further = packing(COMPUTED, self.device) if recipe.quantize == "4bit" else {}
        return whole_model(self.base, recipe.trust_remote_code, **further)

    def adapted(self, folder: Path) -> Any:
        """The adapter in `folder` on its model, by PEFT."""
        from peft import PeftModel

        with loading(str(folder)):
            return PeftModel.from_pretrained(self.base_model(), str(folder))


def whole_model(source: Path | str, trust: bool = False, **further: Any) -> Any:
    """A causal language model in float32, by transformers."""
    from transformers import AutoModelForCausalLM

    with loading(str(source)):
        return AutoModelForCausalLM.from_pretrained(
            str(source), dtype=COMPUTED, use_safetensors=True, trust_remote_code=trust, **further
        )


def generation_of(policy: Policy, recipe: Recipe) -> dict[str, Any]:
    """The sampling that the run trained with: temperature alone, no filter, and every token that ends a response."""
    ids = {"bos_token_id": policy.tokenizer.bos_token_id, "pad_token_id": policy.tokenizer.pad_token_id}
    return {
        **{name: token for name, token in ids.items() if token is not None},
        "eos_token_id": sorted(policy.eos_ids),
        "do_sample": True,
        "temperature": recipe.grpo.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": recipe.grpo.max_new_tokens,
    }


def write_adapter(source: Source, folder: Path, base_name: str | None) -> None:
    """The adapter, its tokenizer and chat template. base_name: what its settings call its model, if not as now."""
    _copy(source.chosen.path, folder)
    if base_name is not None:
        path = folder / ADAPTER_CONFIG
        settings = {**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": base_name}
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_generation(source, folder)


def write_merged(source: Source, folder: Path) -> None:
    """The whole model: the base with the adapter merged into it, or all weights as the run trained them."""
    from transformers import GenerationConfig

    chosen, written = source.chosen, str(source.written).removeprefix("torch.")
    if not chosen.has_adapter and _config(chosen.path).get("dtype") == written:
        _copy(chosen.path, folder)
        write_generation(source, folder)
        return
    _copy(chosen.path, folder, without=WEIGHTS)
    if chosen.has_adapter:
        model = _merge(source)
    else:
        model = whole_model(chosen.path, chosen.recipe.policy.trust_remote_code)
    # The base model's own may hold settings that save_pretrained refuses.
    model.generation_config = GenerationConfig(**source.generation)
    model.to(source.written).save_pretrained(folder)
    for path in folder.glob("*.safetensors"):  # transformers writes them for their owner alone
        path.chmod((folder / "config.json").stat().st_mode)


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _merge(source: Source) -> Any:
    from peft import PeftModel

    base = source.base_model()
    if source.chosen.recipe.policy.quantize == "4bit":
        base = base.dequantize()  # the numbers that the run computed with, not those of the base before
    adapted: Any = PeftModel.from_pretrained(base, str(source.chosen.path))
    return adapted.merge_and_unload(safe_merge=True)


def write_generation(source: Source, folder: Path) -> None:
    """generation_config.json, in place of the base model's own."""
    from transformers import GenerationConfig

    GenerationConfig(**source.generation).save_pretrained(folder)


def _copy(checkpoint: Path, folder: Path, without: tuple[str, ...] = ()) -> None:
    for path in checkpoint.iterdir():
        if path.is_file() and path.name not in OURS and not any(path.match(name) for name in without):
            shutil.copyfile(path, folder / path.name)


def ready(model: Any, source: Source, folder: Path) -> Any:
    """The model on the policy's device, with the folder's own generation settings."""
    from transformers import GenerationConfig

    if not getattr(model, "is_quantized", False):  # packed weights are there already, and cannot be moved
        model = model.to(source.device)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()
