"""A folder with random weights for each shape: config, safetensors, tokenizer. Both sides load the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.workloads import END, PAD, UNKNOWN, Shape

CONTEXT = 4096
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def model_folder(shape: Shape, root: Path, device: str = "cpu") -> Path:
    """The shape's folder below `root`, made on first use. Weights are
    float32, or bfloat16 for billions of them; each side loads its own precision."""
    folder = root / shape.name
    if (folder / "complete").exists():
        return folder
    import torch

    from grandrounds.policy.scratch import build_model
    from grandrounds.recipe import ScratchRecipe

    torch.manual_seed(0)
    if shape.family == "scratch":
        recipe = ScratchRecipe(
            layers=shape.layers, hidden=shape.hidden, heads=shape.heads, feedforward=shape.intermediate
        )
        model = build_model(recipe, shape.vocabulary, END, PAD)
    else:
        with torch.device(device):
            model = _qwen2(shape)
    model.save_pretrained(folder)
    word_tokenizer(shape.vocabulary).save_pretrained(folder)
    (folder / "complete").touch()
    return folder


def _qwen2(shape: Shape) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model: Any = Qwen2ForCausalLM(config)
    return model if model.num_parameters() < 1e9 else model.to(torch.bfloat16)


def word_tokenizer(vocabulary: int) -> Any:
    """A tokenizer whose tokens are words, "w3" and so on: a text of n words has n tokens, no more and no fewer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word(token): token for token in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=word(UNKNOWN)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=word(END), pad_token=word(PAD), unk_token=word(UNKNOWN)
    )
    fast.chat_template = TEMPLATE
    return fast


def word(token: int) -> str:
    """A token's text."""
    return {END: "<end>", PAD: "<pad>", UNKNOWN: "<unknown>"}.get(token, f"w{token}")
