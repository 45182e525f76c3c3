"""4-bit base weights: NF4 with its scales quantised again (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

The weights of all linear layers except the output layer are stored in 4 bits. Each product unpacks the weights of its
layer. Only the LoRA weights are trained. Sampling and training read the same packed weights.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from grandrounds.errors import PolicyError, RecipeError

# Bytes of one weight: 4 bits, an 8-bit scale for each 64 weights, and a 32-bit scale for each 256 of those scales.
PACKED_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)


def packing(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained` that make it pack weights as it reads them. Products are computed in `dtype`.

    Raises RecipeError where bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RecipeError(
            "4-bit weights need bitsandbytes, which is not installed",
            where="policy.quantize",
            hint="pip install 'grandrounds[quantize]', or set policy.quantize to none.",
        )
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_layout(model: Any) -> None:
    """Keep the layout of packed weights.

    On processors with AVX512_BF16, bitsandbytes permanently rearranges packed weights at the first product without
    gradients. A product of rearranged weights passes no gradient on, and the weights' scales lose digits.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def refuse_packed(model: Any, source: str) -> None:
    """PolicyError for a model whose files already hold quantised weights."""
    if getattr(model.config, "quantization_config", None) is not None:
        raise PolicyError(
            "the weights in these files are quantised already",
            where=source,
            hint="Name the model they were made from, and set policy.quantize to 4bit.",
        )


class Packed(nn.Linear):
    """A placeholder for a 4-bit layer where a run is planned without weights. Kernels for `nn.Linear` ignore it."""


def stand_in(base: Any) -> None:
    """Make a `Packed` placeholder of every layer that would be stored in 4 bits."""
    for layer in packable(base):
        layer.__class__ = Packed


def packable(base: Any) -> list[nn.Linear]:
    """The layers of a causal LM that would be stored in 4 bits: linear ones, except the output layer and adapters."""
    head = base.get_output_embeddings()
    return [
        module
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and module is not head and ".lora_" not in name
    ]


def saved_bytes(base: Any) -> tuple[int, int]:
    """For a causal LM that is not packed: (bytes that packing saves, bytes of its largest packable weight)."""
    weights = [layer.weight for layer in packable(base)]
    sizes = [weight.numel() * weight.element_size() for weight in weights]
    packed = sum(weight.numel() for weight in weights) * PACKED_BYTES
    return sum(sizes) - round(packed), max(sizes)
