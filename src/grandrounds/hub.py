"""The Hugging Face Hub, where it can be reached; and what is known of the shipped recipes' models where it cannot."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from typing import Any
from urllib.parse import urlsplit

# Seconds for one connection. The libraries' own tries and pauses add up to half a minute.
PATIENCE = 2.0
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

_QWEN3 = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151_936,
    "head_dim": 128,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40_960,
    "rms_norm_eps": 1e-6,
}
# Hub name -> the numbers of its configuration that memory depends on.
SHAPES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-0.6B": dict(
        _QWEN3,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-1.7B": dict(
        _QWEN3,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=28,
        num_attention_heads=16,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-4B": dict(
        _QWEN3,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-8B": dict(
        _QWEN3,
        hidden_size=4096,
        intermediate_size=12_288,
        num_hidden_layers=36,
        num_attention_heads=32,
        tie_word_embeddings=False,
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
}


@cache
def settle() -> bool:
    """Whether the Hub can be reached; where not, its libraries are told to look only into their caches.

    Call it before one of them is asked for something. Behind a proxy it is left to them.
    """
    if any(os.environ.get(name) for name in OFFLINE):
        _go_offline()  # for all of them
        return False
    if any(os.environ.get(name) for name in PROXIES):
        return True
    at = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = at.port or (80 if at.scheme == "http" else 443)
    try:
        socket.create_connection((at.hostname or "", port), timeout=PATIENCE).close()
    except OSError:
        _go_offline()
        return False
    return True


def _go_offline() -> None:
    for name in OFFLINE:
        os.environ[name] = "1"
    # What has been imported has read the environment already.
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:
            for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
                if hasattr(sys.modules[module], name):
                    setattr(sys.modules[module], name, True)


def known_shape(name: str) -> Any:
    """The configuration of a shipped recipe's model by a few numbers, or None for another model."""
    if name not in SHAPES:
        return None
    from transformers import AutoConfig

    return AutoConfig.for_model(**SHAPES[name])
